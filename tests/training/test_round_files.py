"""The files of a round: what each writer makes of the trees, what is left out, and what is missed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.a_round import a_problem, a_tree, write_trees
from training.examples.labels import Difficulty
from training.examples.preferences import pair_record, pairs, read_pair
from training.examples.values import outcome_values, read_value, step_values
from training.problems.problem import Problem
from training.recipe import Examples, Label
from training.records import Trajectory, appending, read_records, read_trajectories, write_records, write_trajectories
from training.round_files import (
    NothingToLearnFrom,
    RoundFiles,
    write_labels,
    write_pairs,
    write_solutions,
    write_values,
)

EASY, MEDIUM, HARD, ABSENT = (a_problem(name) for name in ("easy", "medium", "hard", "absent"))
DOUBTFUL = a_problem("doubtful", label=Label.AGREED)
PROBLEMS = [EASY, MEDIUM, HARD, ABSENT]
SETTINGS = Examples()


def a_round(run: Path, number: int = 1) -> RoundFiles:
    """Trees of three of the problems; one of them has two."""
    files = RoundFiles(run, number)
    write_trees(
        files,
        {
            MEDIUM: [a_tree(MEDIUM, wrong=2), a_tree(MEDIUM, right=3, wrong=1)],
            EASY: [a_tree(EASY, right=2)],
            HARD: [a_tree(HARD, wrong=3)],
        },
    )
    return files


def a_demonstration(problem: Problem, *, is_right: bool = True, output: str = "6") -> Trajectory:
    return Trajectory(
        problem_id=problem.id,
        group=problem.group,
        question=problem.question,
        steps=("print(1 + 2 + 3)",),
        output=output,
        answer=output,
        is_right=is_right,
        source="teacher",
    )


def solve(
    files: RoundFiles, problems: Sequence[Problem], *, given: Path | None = None, settings: Examples = SETTINGS
) -> list[tuple[str, str]]:
    """Problem and source of each solution that is written."""
    demonstrations = given or files.run / "demonstrations.jsonl"
    write_solutions(problems, files, demonstrations=demonstrations, settings=settings)
    return [(found.problem_id, found.source) for found in read_trajectories(files["solutions.jsonl"])]


def test_rounds_know_their_names_and_the_rounds_before(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path, 3)
    assert files["trees"] == tmp_path / "round-3" / "trees"
    assert [before.name for before in files.earlier] == ["round-2", "round-1"]
    assert RoundFiles(tmp_path, 1).earlier == []
    assert files.learnt_from(Examples()) == [files]
    assert files.learnt_from(Examples(earlier_rounds=1)) == [files, files.earlier[0]]
    assert files.learnt_from(Examples(earlier_rounds=3)) == [files, *files.earlier]


def test_labels_count_every_problem_in_its_order(tmp_path: Path) -> None:
    files = a_round(tmp_path)
    write_labels(PROBLEMS, files)
    found = files.read_labels()
    assert [(name, one.right, one.trajectories) for name, one in found.items()] == [
        ("easy", 2, 2),
        ("medium", 3, 6),
        ("hard", 0, 3),
        ("absent", 0, 0),
    ]
    assert [one.difficulty for one in found.values()] == [
        Difficulty.EASY,
        Difficulty.MEDIUM,
        Difficulty.HARD,
        Difficulty.HARD,
    ]


def test_doubtful_problems_are_not_trusted(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path, 4)
    agreed = a_problem("agreed", label=Label.AGREED)
    write_trees(
        files,
        {
            DOUBTFUL: [a_tree(DOUBTFUL, right=1, wrong=2)],
            agreed: [a_tree(agreed, right=2, wrong=2)],
            HARD: [a_tree(HARD, wrong=2)],
        },
    )
    write_labels([DOUBTFUL, agreed, HARD], files)
    assert files.trusted([DOUBTFUL, agreed, HARD]) == [agreed, HARD]


def test_the_best_two_solutions_of_each_problem_are_written(tmp_path: Path) -> None:
    assert solve(a_round(tmp_path), PROBLEMS) == [
        *[("easy", "round-1")] * 2,
        *[("medium", "round-1")] * 2,
    ]


def test_solutions_of_earlier_rounds_stand_in_latest_first(tmp_path: Path) -> None:
    for number, names in ((1, ["hard", "absent"]), (2, ["hard"])):
        earlier = [a_demonstration(a_problem(name)) for name in names]
        write_trajectories(tmp_path / f"round-{number}" / "solutions.jsonl", earlier)
        sources = [{**record, "source": f"round-{number}"} for record in read_records(_solutions(tmp_path, number))]
        write_records(_solutions(tmp_path, number), sources)
    found = solve(a_round(tmp_path, 3), PROBLEMS)
    assert found[-2:] == [("hard", "round-2"), ("absent", "round-1")]
    assert {source for name, source in found if name in ("easy", "medium")} == {"round-3"}


def _solutions(run: Path, number: int) -> Path:
    return run / f"round-{number}" / "solutions.jsonl"


@pytest.mark.parametrize(("wanted", "expected"), [("none", []), ("unsolved", [("hard", "demonstration: teacher")])])
def test_demonstrations_stand_in_only_where_wanted(tmp_path: Path, wanted: str, expected: list[object]) -> None:
    given = tmp_path / "given.jsonl"
    wrong = a_demonstration(ABSENT, is_right=False, output="7")
    write_trajectories(given, [a_demonstration(EASY), wrong, a_demonstration(HARD)])
    settings = Examples.model_validate({"demonstrations": wanted})
    found = solve(a_round(tmp_path), PROBLEMS, given=given, settings=settings)
    assert found[4:] == expected


def test_a_problem_that_is_left_out_gets_no_fallback(tmp_path: Path) -> None:
    write_trajectories(_solutions(tmp_path, 1), [a_demonstration(DOUBTFUL)])
    assert "doubtful" not in dict(solve(a_round(tmp_path, 2), PROBLEMS))


def test_a_round_that_solves_nothing_says_what_helps(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path, 1)
    write_trees(files, {HARD: [a_tree(HARD, wrong=2)]})
    with pytest.raises(NothingToLearnFrom, match="round-1 solved no training problem; use easier problems"):
        solve(files, [HARD])
    assert not files["solutions.jsonl"].exists()


def test_pairs_are_those_of_all_trees_of_each_problem(tmp_path: Path) -> None:
    files = a_round(tmp_path)
    write_pairs(PROBLEMS, files, SETTINGS)
    trees = [a_tree(MEDIUM, wrong=2), a_tree(MEDIUM, right=3, wrong=1)]
    found = list(map(read_pair, read_records(files["pairs.jsonl"])))
    expected = [read_pair(pair_record(pair)) for pair in pairs("medium", trees, SETTINGS)]
    assert found == expected
    assert expected


def test_perturbed_pairs_follow_those_of_their_problem(tmp_path: Path) -> None:
    files = a_round(tmp_path)
    write_pairs(PROBLEMS, files, SETTINGS)
    of_trees = list(read_records(files["pairs.jsonl"]))
    changed = {**of_trees[0], "problem_id": "easy"}
    with appending(files["perturbed"] / "part-0.jsonl") as append:
        append({"key": "doubtful", "result": {"tried": 1, "pairs": [of_trees[0]]}})
        append({"key": "easy", "result": {"tried": 1, "pairs": [changed]}})
    write_pairs(PROBLEMS, files, SETTINGS)
    assert list(read_records(files["pairs.jsonl"])) == [changed, *of_trees]


def test_without_right_and_wrong_there_is_no_pair(tmp_path: Path) -> None:
    files = a_round(tmp_path)
    with pytest.raises(NothingToLearnFrom, match="round-1 has no problem with right and wrong trajectories"):
        write_pairs([EASY, HARD], files, SETTINGS)


def test_pairs_of_earlier_rounds_are_enough_where_used(tmp_path: Path) -> None:
    write_pairs([MEDIUM], a_round(tmp_path, 1), SETTINGS)
    files, again = a_round(tmp_path, 2), Examples(earlier_rounds=3)
    write_pairs([EASY, HARD], files, again)
    with pytest.raises(NothingToLearnFrom):
        write_pairs([EASY, HARD], files, SETTINGS)


def test_rivals_learn_from_the_trees_of_medium_problems(tmp_path: Path) -> None:
    files = a_round(tmp_path)
    write_labels(PROBLEMS, files)
    write_values(PROBLEMS, files)
    trees = [(problem.id, found) for problem, found in files.read_trees([MEDIUM])]
    for name, values in (("steps.jsonl", step_values), ("outcomes.jsonl", outcome_values)):
        expected = [one for problem_id, found in trees for one in values(problem_id, found)]
        assert list(map(read_value, read_records(files[name]))) == expected
    outcomes = [(one.problem_id, one.target) for one in map(read_value, read_records(files["outcomes.jsonl"]))]
    assert {target for _, target in outcomes} == {1.0, -1.0}
    assert {problem_id for problem_id, _ in outcomes} == {MEDIUM.id}
