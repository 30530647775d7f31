"""Trajectories are counted, problems classed, doubtful labels found, and coverage is over fixed problems."""

import json

import pytest

from search import ExecutionOutcome, Tree
from search.testing.trees import add_answer, add_step, add_trajectory, end_trajectory
from search.tree import ROOT
from training.examples.labels import (
    Coverage,
    Difficulty,
    Outcomes,
    count_outcomes,
    coverage,
    difficulties,
    outcomes_record,
    read_outcomes,
    total,
)
from training.recipe import Label


def tree_of(*results: bool) -> Tree:
    """A tree whose trajectories ended in this order."""
    tree = Tree("p")
    for number, is_right in enumerate(results):
        add_trajectory(tree, [f"way {number}"], "1" if is_right else str(number + 2), is_right=is_right)
    return tree


def outcomes(problem_id: str, right: int, *, of: int = 16, first: int = 0, label: Label = Label.EXACT) -> Outcomes:
    return Outcomes(problem_id=problem_id, label=label, trajectories=of, right=right, right_of_first=first)


def test_right_trajectories_of_all_trees_are_counted() -> None:
    found = count_outcomes("p", [tree_of(True, False), tree_of(True, True)], label=Label.EXACT)
    assert (found.trajectories, found.right) == (4, 3)


def test_failed_trajectories_count_as_not_right() -> None:
    tree = tree_of(True)
    end_trajectory(tree, add_step(tree, ROOT, "fails", outcome=ExecutionOutcome.ERROR))
    found = count_outcomes("p", [tree], label=Label.EXACT)
    assert (found.trajectories, found.right, found.difficulty) == (2, 1, Difficulty.MEDIUM)


def test_right_answers_that_no_trajectory_reached_do_not_count() -> None:
    tree = tree_of(False)
    add_answer(tree, add_step(tree, ROOT, "way", output="1"), "1", is_right=True)
    assert count_outcomes("p", [tree], label=Label.EXACT).right == 0


def test_the_first_trajectories_are_those_that_ended_first() -> None:
    late, early = tree_of(*[False] * 8, True), tree_of(*[True] * 3, *[False] * 9)
    assert count_outcomes("p", [late], label=Label.EXACT).right_of_first == 0
    assert count_outcomes("p", [early], label=Label.EXACT).right_of_first == 3


def test_the_order_of_ending_counts_not_the_order_of_nodes() -> None:
    tree = Tree("p")
    first_made = add_answer(tree, add_step(tree, ROOT, "a", output="1"), "1", is_right=True)
    for number in range(8):
        add_trajectory(tree, [f"way {number}"], str(number + 2), is_right=False)
    end_trajectory(tree, first_made)
    found = count_outcomes("p", [tree], label=Label.EXACT)
    assert (found.right, found.right_of_first) == (1, 0)


def test_only_the_first_tree_has_first_trajectories() -> None:
    found = count_outcomes("p", [tree_of(False), tree_of(True)], label=Label.EXACT)
    assert (found.right, found.right_of_first) == (1, 0)


def test_a_problem_without_trees_has_no_trajectories() -> None:
    assert count_outcomes("p", [], label=Label.AGREED) == outcomes("p", 0, of=0, label=Label.AGREED)


@pytest.mark.parametrize(
    ("right", "of", "expected"),
    [
        (16, 16, Difficulty.EASY),
        (15, 16, Difficulty.MEDIUM),
        (1, 16, Difficulty.MEDIUM),
        (0, 16, Difficulty.HARD),
        (0, 0, Difficulty.HARD),
    ],
)
def test_difficulty_is_told_by_the_share_of_right(right: int, of: int, expected: Difficulty) -> None:
    assert outcomes("p", right, of=of).difficulty is expected


@pytest.mark.parametrize(
    ("right", "label", "expected"),
    [
        (7, Label.AGREED, True),
        (8, Label.AGREED, False),
        (0, Label.AGREED, True),
        (0, Label.EXACT, False),
        (7, Label.EXACT, False),
    ],
)
def test_only_agreed_labels_under_half_are_doubtful(right: int, label: Label, *, expected: bool) -> None:
    assert outcomes("p", right, label=label).is_doubtful is expected


def test_coverage_counts_problems_without_outcomes_as_unsolved() -> None:
    found = {"a": outcomes("a", 3, first=1), "b": outcomes("b", 2), "other": outcomes("other", 1)}
    classes = {"a": "gcd", "b": "gcd", "c": "gcd", "d": "lcm"}
    assert coverage(found, classes) == {
        "gcd": Coverage(problems=3, solved=2, solved_by_first=1),
        "lcm": Coverage(problems=1, solved=0, solved_by_first=0),
    }


def test_total_coverage_is_the_share_of_all_problems() -> None:
    found = {"a": outcomes("a", 3, first=1), "b": outcomes("b", 2)}
    every = total(coverage(found, {"a": "gcd", "b": "gcd", "c": "gcd", "d": "lcm"}).values())
    assert (every.share, every.share_by_first) == (0.5, 0.25)


def test_coverage_by_the_difficulty_of_an_earlier_round() -> None:
    earlier = {"a": outcomes("a", 16), "b": outcomes("b", 0)}
    later = {"a": outcomes("a", 16), "b": outcomes("b", 1), "c": outcomes("c", 1)}
    classes = difficulties(earlier, ["a", "b", "c"])
    assert classes == {"a": Difficulty.EASY, "b": Difficulty.HARD, "c": Difficulty.HARD}
    assert coverage(later, classes)[Difficulty.HARD].share == 1.0


def test_outcomes_come_back_from_json() -> None:
    found = outcomes("p", 3, first=2, label=Label.AGREED)
    assert read_outcomes(json.loads(json.dumps(outcomes_record(found)))) == found
