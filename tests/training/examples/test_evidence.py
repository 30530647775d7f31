"""Trees of one problem are merged by the texts of their steps; only what trajectories reached counts."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import ExecutionOutcome, Tree, Values
from search.testing.invariants import check_invariants
from search.testing.trees import add_answer, add_step, add_trajectory, end_trajectory
from search.tree import ROOT
from training.examples.evidence import RIGHT, WRONG, Evidence, mean_value, merge, trajectories, walk


def at(root: Evidence, *texts: str) -> Evidence:
    """The step reached by these texts."""
    for text in texts:
        root = next(child for child in root.children if child.path.steps[-1].text == text)
    return root


def test_equal_texts_after_equal_prefixes_are_one_step() -> None:
    one, other = Tree("p"), Tree("p")
    add_trajectory(one, ["a", "print"], "1", is_right=True)
    add_trajectory(other, ["b", "print"], "2", is_right=False)
    add_trajectory(other, ["a", "print"], "1", is_right=True)
    root = merge([one, other])
    assert [child.path.steps[-1].text for child in root.children] == ["a", "b"]
    assert at(root, "a").trajectories == 2
    assert root.trajectories == 3


def test_a_step_that_printed_something_else_is_another_step() -> None:
    one, other = Tree("p"), Tree("p")
    add_trajectory(one, ["print(random())"], "1", is_right=True)
    add_trajectory(other, ["print(random())"], "2", is_right=False)
    assert len(merge([one, other]).children) == 2


def test_values_are_means_over_the_visits_of_all_trees() -> None:
    one, other = Tree("p"), Tree("p")
    for tree, results in ((one, [True]), (other, [True, False, False])):
        for number, is_right in enumerate(results):
            add_trajectory(tree, ["a", f"b{number}"], str(is_right), is_right=is_right)
    assert at(merge([one, other]), "a").value == 0.0


def test_priors_count_in_the_value_but_not_as_results() -> None:
    tree = Tree("p")
    step = add_step(tree, ROOT, "a", prior=-0.5)
    add_trajectory(tree, ["a", "print"], "1", is_right=True)
    merged = at(merge([tree]), "a")
    assert tree[step].value == merged.value == 0.25
    assert (merged.returned, merged.trajectories) == (1.0, 1)


def test_answers_of_two_wordings_are_one_answer() -> None:
    one, other = Tree("p"), Tree("p")
    for tree in (one, other):
        add_trajectory(tree, ["print"], "1", is_right=True)
    answer = other.nodes[-1]
    assert answer.step is not None
    object.__setattr__(answer.step, "text", "It is \\boxed{1}.")
    assert len(trajectories(merge([one, other]), answering=RIGHT)) == 1


def test_an_answer_that_no_trajectory_reached_only_may_be_right() -> None:
    tree = Tree("p")
    step = add_step(tree, ROOT, "print", output="1")
    add_answer(tree, step, "1", is_right=True)
    end_trajectory(tree, add_answer(tree, step, "2", is_right=False))
    merged = at(merge([tree]), "print")
    assert (merged.leads_right, merged.leads_wrong, merged.may_lead_right) == (False, True, True)
    assert trajectories(merge([tree]), answering=RIGHT) == []


def test_a_step_that_failed_in_one_tree_did_not_run() -> None:
    one, other = Tree("p"), Tree("p")
    add_trajectory(one, ["a", "print"], "1", is_right=True)
    add_step(other, ROOT, "a", outcome=ExecutionOutcome.TIMEOUT_CPU)
    assert at(merge([one]), "a").is_code
    merged = merge([one, other])
    assert not at(merged, "a").is_code
    assert trajectories(merged, answering=RIGHT) == []


def test_trees_of_several_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="2 problems"):
        merge([Tree("p"), Tree("q")])


@given(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), st.sampled_from(Values))
def test_merging_keeps_every_trajectory_and_its_value(
    searched: Callable[[Sequence[int], Values], list[Tree]], seeds: list[int], values: Values
) -> None:
    trees = searched(seeds, values)
    for tree in trees:
        check_invariants(tree)
    root = merge(trees)
    assert root.trajectories == sum(tree.trajectories for tree in trees)
    assert sum(node.visits for step in walk(root) for node in step.nodes) == sum(
        node.visits for tree in trees for node in tree.nodes
    )
    for step in walk(root):
        assert abs(step.returned) <= step.trajectories
        assert not any(step.token_ids for step in step.path.steps)


def test_one_tree_stays_as_it_is() -> None:
    tree = Tree("p")
    ends = [add_trajectory(tree, ["a", f"b{n}"], str(n), is_right=n == 0) for n in range(2)]
    root = merge([tree])
    right, wrong = trajectories(root, answering=RIGHT), trajectories(root, answering=WRONG)
    assert [lineage[-1].nodes[0].id for lineage in right + wrong] == ends
    assert mean_value(right[0]) == (0.0 + 1.0 + 1.0) / 3
