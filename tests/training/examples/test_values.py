"""The comparison models learn from the same trees: Q of every step tried, outcomes of whole solutions."""

import json
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from search import ExecutionOutcome, Tree, Values
from search.testing.trees import add_answer, add_step, add_trajectory, end_trajectory
from search.tree import ROOT
from training.examples.values import Valued, outcome_values, read_value, step_values, value_record


def targets(values: Sequence[Valued]) -> dict[str, float]:
    """Target by the last step's text; answers by their value."""
    return {value.path.steps[-1].text.rpartition("boxed")[2]: value.target for value in values}


def test_steps_are_worth_the_mean_of_their_trajectories() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a", "b"], "1", is_right=True)
    for number in range(3):
        add_trajectory(tree, ["a", f"c{number}"], str(number + 2), is_right=False)
    found = targets(step_values("p", [tree]))
    assert (found["a"], found["b"], found["{1}."], found["c0"]) == (-0.5, 1.0, 1.0, -1.0)


def test_the_prior_of_the_ppm_does_not_count() -> None:
    tree = Tree("p")
    add_step(tree, ROOT, "a", prior=0.9)
    add_trajectory(tree, ["a", "b"], "2", is_right=False)
    assert targets(step_values("p", [tree]))["a"] == -1.0


def test_q_is_the_mean_over_all_trees() -> None:
    one, other = Tree("p"), Tree("p")
    add_trajectory(one, ["a", "b"], "1", is_right=True)
    add_trajectory(other, ["a", "c"], "2", is_right=False)
    assert targets(step_values("p", [one, other]))["a"] == 0.0


def test_only_steps_that_were_tried_have_values() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a"], "1", is_right=True)
    add_step(tree, ROOT, "not tried", prior=0.5)
    add_step(tree, ROOT, "fails", outcome=ExecutionOutcome.ERROR)
    add_answer(tree, add_step(tree, ROOT, "a"), "2", is_right=False)
    assert targets(step_values("p", [tree])) == {"a": 1.0, "{1}.": 1.0}


def test_a_step_below_which_all_failed_is_worth_minus_one() -> None:
    tree = Tree("p")
    step = add_step(tree, ROOT, "a")
    add_step(tree, step, "fails", outcome=ExecutionOutcome.ERROR)
    tree.settle(step)
    end_trajectory(tree, step)
    assert targets(step_values("p", [tree])) == {"a": -1.0}
    assert outcome_values("p", [tree]) == []


def test_whole_solutions_have_their_outcome() -> None:
    one, other = Tree("p"), Tree("p")
    for tree in (one, other):
        add_trajectory(tree, ["a", "b"], "1", is_right=True)
    add_trajectory(other, ["a", "c"], "2", is_right=False)
    found = outcome_values("p", [one, other])
    assert targets(found) == {"{1}.": 1.0, "{2}.": -1.0}
    assert [len(value.path.steps) for value in found] == [3, 3]
    assert {value.problem_id for value in found} == {"p"}


@given(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), st.sampled_from(Values))
def test_values_of_real_searches_lie_in_range(
    searched: Callable[[Sequence[int], Values], list[Tree]], seeds: list[int], values: Values
) -> None:
    trees = searched(seeds, values)
    found = step_values("p", trees)
    assert all(-1.0 <= value.target <= 1.0 for value in found)
    assert len({value.path for value in found}) == len(found)
    assert {value.path for value in outcome_values("p", trees)} <= {value.path for value in found}


def test_values_come_back_from_json(searched: Callable[[Sequence[int], Values], list[Tree]]) -> None:
    found = step_values("p", searched([1, 2], Values.PPM))
    assert found
    assert [read_value(json.loads(json.dumps(value_record(value)))) for value in found] == found
