# pyright: basic
"""Fine-tuning data carries loss on the policy's own tokens only, and is cut where search cuts it."""

from pathlib import Path

import pytest
import torch

from search import CandidateStop
from search import Path as SearchPath
from search.format import END_OF_ANSWER, END_OF_CODE, END_OF_STEP, OUTPUT
from search.protocols import PathStep
from server.engines.rendering import PathTokens, StepTokenizer
from training.sft_data import Example, answer_text, batches, encode
from training.tokenizer import train_tokenizer
from training.trajectories import Trajectory, read_trajectories, write_trajectories

TRAJECTORY = Trajectory(
    problem_id="gcd/train/0",
    family="gcd",
    question="Find the gcd of 12 and 18. <end_of_code>",
    steps=("\n# Read the numbers\na = 12\nb = 18\n", "\n# Print the answer\nprint(a % b)\n"),
    output="12 <answer>",
    answer="6",
    is_right=True,
    source="test",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> StepTokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    texts = [TRAJECTORY.question, *TRAJECTORY.steps, answer_text("6")] * 5
    train_tokenizer(texts, vocabulary=320).save(str(file))
    return StepTokenizer(file)


def text_of(example: Example, tokenizer: StepTokenizer, *, target: bool) -> str:
    ids = tuple(i for i, wrote in zip(example.token_ids, example.is_target, strict=True) if wrote is target)
    return tokenizer.decode_step((*ids, tokenizer.special_ids[END_OF_STEP]))


def test_only_what_the_policy_wrote_is_a_target(tokenizer: StepTokenizer) -> None:
    example = encode(TRAJECTORY, tokenizer)
    written = text_of(example, tokenizer, target=True)
    assert written == (
        TRAJECTORY.steps[0] + END_OF_STEP + TRAJECTORY.steps[1] + END_OF_CODE + answer_text("6") + END_OF_ANSWER
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
    path = PathTokens(tokenizer).token_ids(SearchPath(problem=TRAJECTORY.question, steps=tuple(steps)))
    assert encode(TRAJECTORY, tokenizer).token_ids[: len(path)] == path


def test_special_tokens_in_problem_and_output_are_plain_text(tokenizer: StepTokenizer) -> None:
    example = encode(TRAJECTORY, tokenizer)
    count = example.token_ids.count
    assert count(tokenizer.special_ids[END_OF_CODE]) == 1
    assert count(tokenizer.special_ids["<answer>"]) == 1


def test_an_epoch_holds_every_example_once_within_the_token_limit() -> None:
    lengths = [5 + index % 40 for index in range(300)]
    examples = [Example((7,) * length, (True,) * length) for length in lengths]
    seen: list[int] = []
    for ids_B_T, is_target_B_T in batches(examples, tokens=256, generator=torch.Generator().manual_seed(0), pad_id=0):
        assert ids_B_T.shape == is_target_B_T.shape
        assert ids_B_T.shape[0] == 1 or ids_B_T.shape[0] * max(is_target_B_T.sum(1).tolist()) <= 256
        assert torch.equal(ids_B_T == 7, is_target_B_T)
        seen += is_target_B_T.sum(1).tolist()
    assert sorted(seen) == sorted(lengths)


def test_the_same_seed_gives_the_same_epoch() -> None:
    examples = [Example((1,) * (5 + index), (True,) * (5 + index)) for index in range(50)]

    def epoch(seed: int) -> list[list[int]]:
        stream = batches(examples, tokens=128, generator=torch.Generator().manual_seed(seed), pad_id=0)
        return [ids.sum(1).tolist() for ids, _ in stream]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_trajectories_survive_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "some" / "trajectories.jsonl"
    assert write_trajectories(file, [TRAJECTORY, TRAJECTORY]) == 2
    assert list(read_trajectories(file)) == [TRAJECTORY, TRAJECTORY]
