"""Encoded examples are what search shows the models; only what the policy wrote is learnt; long ones are left out."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from search import CandidateStop, PathStep
from search import Path as SearchPath
from search.format import END_OF_ANSWER, END_OF_CODE, END_OF_STEP, OUTPUT
from server.engines.rendering import PathTokens, StepTokenizer
from training.examples.preferences import Pair
from training.examples.values import Valued
from training.models.encoded import (
    MAX_PAIRS_TOGETHER,
    Example,
    PolicyExamples,
    RewardExamples,
    RewardWriter,
    answer_text,
    encode,
    write_policy_examples,
)
from training.models.sequences import packed_rows
from training.records import Trajectory

TRAJECTORY = Trajectory(
    problem_id="double/train/7",
    group="double",
    question="What is twice 7? <end_of_code>",
    steps=("\n# Read the number\na = 7\n", "\n# Print it\nprint(a + a)\n"),
    output="14 <answer>",
    answer="14",
    is_right=True,
    source="test",
)


@pytest.fixture(scope="module")
def tokenizer(start: Path) -> StepTokenizer:
    return StepTokenizer(start / "tokenizer.json")


def text_of(example: Example, tokenizer: StepTokenizer, *, target: bool) -> str:
    return tokenizer.decode(
        [i for i, wrote in zip(example.token_ids, example.is_target, strict=True) if wrote is target]
    )


def path(*texts: str, problem: str = "What is twice 7?") -> SearchPath:
    steps = [PathStep(text=text, token_ids=(), stop=CandidateStop.END_OF_STEP, output=None) for text in texts]
    return SearchPath(problem=problem, steps=tuple(steps))


def pair(better: SearchPath, worse: SearchPath, weight: float = 1.0, problem_id: str = "p") -> Pair:
    return Pair(better=better, worse=worse, weight=weight, problem_id=problem_id)


def written(
    tokenizer: StepTokenizer, folder: Path, records: Sequence[Pair | Valued], max_length: int = 160
) -> RewardWriter:
    writer = RewardWriter(tokenizer, max_length=max_length)
    for record in records:
        writer.add(record)
    writer.write(folder)
    return writer


def test_only_what_the_policy_wrote_is_a_target(tokenizer: StepTokenizer) -> None:
    example = encode(TRAJECTORY, tokenizer)
    assert text_of(example, tokenizer, target=True) == (
        TRAJECTORY.steps[0] + END_OF_STEP + TRAJECTORY.steps[1] + END_OF_CODE + answer_text("14") + END_OF_ANSWER
    )
    given = text_of(example, tokenizer, target=False)
    assert TRAJECTORY.question in given
    assert OUTPUT + TRAJECTORY.output in given


def test_tokens_are_those_that_search_shows_the_models(tokenizer: StepTokenizer) -> None:
    stops = (CandidateStop.END_OF_STEP, CandidateStop.END_OF_CODE)
    steps = [
        PathStep(
            text=text,
            token_ids=tokenizer.encode_step(text, stop),
            stop=stop,
            output=TRAJECTORY.output if stop is CandidateStop.END_OF_CODE else None,
        )
        for text, stop in zip(TRAJECTORY.steps, stops, strict=True)
    ]
    shown = PathTokens(tokenizer).token_ids(SearchPath(problem=TRAJECTORY.question, steps=tuple(steps)))
    assert encode(TRAJECTORY, tokenizer).token_ids[: len(shown)] == shown


def test_special_tokens_in_problem_and_output_are_plain_text(tokenizer: StepTokenizer) -> None:
    count = encode(TRAJECTORY, tokenizer).token_ids.count
    assert count(tokenizer.special_ids[END_OF_CODE]) == 1
    assert count(tokenizer.special_ids["<answer>"]) == 1


def test_long_solutions_are_left_out_whole_and_counted(tmp_path: Path) -> None:
    examples = [Example((1,) * length, (False,) + (True,) * (length - 1)) for length in (4, 9, 5)]
    assert write_policy_examples(tmp_path, examples, max_length=5) == {"examples": 2, "left_out": 1}
    read = PolicyExamples(tmp_path)
    assert read.tokens.lengths == [4, 5]
    assert [size.prompt for size in read.sizes()] == [1, 1]


def test_paths_are_written_once_and_long_ones_left_out(tokenizer: StepTokenizer, tmp_path: Path) -> None:
    one, two, long = path("\na = 7\n"), path("\na = 8\n"), path("\na = 7\n" * 40)
    writer = written(tokenizer, tmp_path, [pair(one, two), pair(one, long), pair(one, two, weight=0.5)])
    read = RewardExamples(tmp_path)
    assert writer.left_out == 1
    assert len(read.paths) == 2
    assert read.records["weight"].tolist() == [1.0, 0.5]


def test_pairs_of_one_problem_are_one_unit(tokenizer: StepTokenizer, tmp_path: Path) -> None:
    good, bad = ([path(f"\n{name} = {n}\n") for n in range(2)] for name in ("good", "bad"))
    node = [pair(one, two, weight=0.25) for one in good for two in bad]
    deeper = [pair(path("\ngood = 0\n", "\nprint(0)\n"), path("\ngood = 0\n", "\nprint(1)\n"))]
    other = [pair(path("\nx = 1\n"), path("\nx = 2\n"), problem_id="q")]
    written(tokenizer, tmp_path, [*node, *deeper, *other])
    sizes = RewardExamples(tmp_path).sizes()
    # The deeper paths begin with a good one, which needs no row of its own.
    assert [(size.rows, size.count) for size in sizes] == [(5, 5), (2, 1)]


def test_a_problem_with_many_pairs_is_several_units(tokenizer: StepTokenizer, tmp_path: Path) -> None:
    many = [pair(path(f"\na = {n}\n"), path(f"\nb = {n}\n")) for n in range(MAX_PAIRS_TOGETHER + 3)]
    written(tokenizer, tmp_path, many)
    assert [size.count for size in RewardExamples(tmp_path).sizes()] == [MAX_PAIRS_TOGETHER, 3]


def test_values_along_one_solution_share_a_row(tokenizer: StepTokenizer, tmp_path: Path) -> None:
    steps = ("\na = 7\n", "\nb = a\n", "\nprint(b)\n")
    along = [path(*steps[:length]) for length in (1, 2, 3)]
    paths = [along[1], path("\na = 8\n"), along[0], along[2]]
    values = [Valued(path=one, target=float(index), weight=1.0, problem_id="p") for index, one in enumerate(paths)]
    written(tokenizer, tmp_path, values)
    read = RewardExamples(tmp_path)
    assert sorted((size.rows, size.count) for size in read.sizes()) == [(1, 1), (1, 3)]
    assert sorted(read.records["target"].tolist()) == [0.0, 1.0, 2.0, 3.0]
    assert len(packed_rows([read.paths[index] for index in range(4)]).rows) == 2


def test_a_side_without_examples_can_be_read(tokenizer: StepTokenizer, tmp_path: Path) -> None:
    written(tokenizer, tmp_path, [])
    assert RewardExamples(tmp_path).units == []
