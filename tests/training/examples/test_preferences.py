"""Preference pairs are read off all trees of a problem by Q, and no step is on both sides."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import ExecutionOutcome, Tree, Values
from search.testing.trees import add_answer, add_step, add_trajectory, end_trajectory
from search.tree import ROOT, NodeId
from training.examples.evidence import merge
from training.examples.preferences import Pair, answer_pairs, pair_record, pairs, parted_pairs, read_pair, step_pairs
from training.recipe import Examples

SETTINGS = Examples()


def branch(tree: Tree, text: str, *, right: int = 0, wrong: int = 0) -> NodeId:
    """A step below the root with that many right and wrong trajectories through it."""
    for number in range(right + wrong):
        answer = "1" if number < right else str(number + 2)
        add_trajectory(tree, [text, f"{text}, way {number}"], answer, is_right=number < right)
    return next(child.id for child in tree.children(tree.root) if child.step and child.step.text == text)


def texts(pair: Pair) -> tuple[str, str]:
    return pair.better.steps[-1].text, pair.worse.steps[-1].text


def first_steps(*trees: Tree, settings: Examples = SETTINGS) -> list[tuple[str, str]]:
    """The pairs of first steps."""
    return [texts(pair) for pair in pairs("p", trees, settings) if len(pair.better.steps) == 1]


def test_best_right_steps_stand_against_worst_wrong_ones() -> None:
    tree = Tree("p")
    for text, right, wrong in (("c", 1, 3), ("b", 2, 1), ("a", 1, 0)):
        branch(tree, text, right=right, wrong=wrong)
    low = branch(tree, "z", wrong=1)
    for text in ("x", "y"):
        add_step(tree, ROOT, text, prior=0.9)
        branch(tree, text, wrong=1)
    assert tree[low].value == -1.0
    assert first_steps(tree) == [("a", "z"), ("a", "x"), ("b", "z"), ("b", "x")]


def test_of_equal_steps_the_most_tried_are_chosen() -> None:
    tree = Tree("p")
    for text, count in (("a", 1), ("b", 2), ("c", 3)):
        branch(tree, text, right=count)
    for text, count in (("x", 1), ("y", 2), ("z", 3)):
        branch(tree, text, wrong=count)
    assert first_steps(tree, settings=Examples(per_side=1)) == [("c", "z")]


def test_a_step_that_leads_to_both_is_never_a_negative() -> None:
    tree = Tree("p")
    branch(tree, "mixed", right=1, wrong=3)
    branch(tree, "wrong", wrong=1)
    assert first_steps(tree) == [("mixed", "wrong")]


def test_a_step_that_was_right_in_another_tree_is_no_negative() -> None:
    one, other = Tree("p"), Tree("p")
    branch(one, "a", wrong=2)
    branch(one, "b", right=1)
    assert first_steps(one) == [("b", "a")]
    branch(other, "a", right=1)
    branch(other, "c", wrong=1)
    assert first_steps(one, other) == [("b", "c"), ("a", "c")]


def test_siblings_of_two_trees_are_compared() -> None:
    one, other = Tree("p"), Tree("p")
    branch(one, "a", right=1)
    branch(other, "x", wrong=1)
    assert first_steps(one, other) == [("a", "x")]


def test_a_right_answer_not_reached_yet_rules_out_a_negative() -> None:
    tree = Tree("p")
    branch(tree, "a", right=1)
    step = branch(tree, "b", wrong=1)
    assert first_steps(tree) == [("a", "b")]
    add_answer(tree, add_step(tree, step, "another way", output="1"), "1", is_right=True)
    assert first_steps(tree) == []


def test_an_answer_that_no_trajectory_reached_is_not_evidence() -> None:
    tree = Tree("p")
    branch(tree, "a", right=1)
    add_answer(tree, add_step(tree, ROOT, "b", output="2"), "2", is_right=False)
    assert pairs("p", [tree], SETTINGS) == []


def test_code_that_failed_is_no_negative() -> None:
    tree = Tree("p")
    branch(tree, "a", right=1)
    add_step(tree, ROOT, "b", outcome=ExecutionOutcome.ERROR)
    step = add_step(tree, ROOT, "c")
    end_trajectory(tree, add_step(tree, step, "d", outcome=ExecutionOutcome.ERROR))
    assert tree[step].value == -1.0
    assert pairs("p", [tree], SETTINGS) == []


def test_a_step_that_failed_in_another_tree_is_no_negative() -> None:
    one, other = Tree("p"), Tree("p")
    branch(one, "a", right=1)
    branch(one, "x", wrong=1)
    add_step(other, ROOT, "x", outcome=ExecutionOutcome.TIMEOUT_CPU)
    assert first_steps(one, other) == []


def test_a_step_that_failed_in_another_tree_is_no_positive() -> None:
    one, other = Tree("p"), Tree("p")
    branch(one, "a", right=1)
    branch(one, "x", wrong=1)
    add_step(other, ROOT, "a", outcome=ExecutionOutcome.TIMEOUT_CPU)
    assert first_steps(one, other) == []


def test_a_problem_that_was_not_searched_gives_nothing() -> None:
    assert pairs("p", [], SETTINGS) == []


def test_sides_closer_than_the_margin_give_no_pair() -> None:
    tree = Tree("p")
    branch(tree, "a", right=1, wrong=3)
    branch(tree, "b", right=2, wrong=1)
    branch(tree, "x", wrong=1)
    assert first_steps(tree, settings=Examples(margin=0.5)) == [("b", "x"), ("a", "x")]
    assert first_steps(tree, settings=Examples(margin=0.6)) == [("b", "x")]


@pytest.mark.parametrize("is_right", [True, False])
def test_problems_all_right_or_all_wrong_give_nothing(*, is_right: bool) -> None:
    trees = [Tree("p"), Tree("p")]
    for tree in trees:
        for text in ("a", "b"):
            branch(tree, text, right=2 * is_right, wrong=2 * (not is_right))
    assert pairs("p", trees, SETTINGS) == []


def test_answer_pairs_need_no_common_prefix_and_rank_by_mean_q() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["mixed", "right"], "1", is_right=True)
    add_trajectory(tree, ["mixed", "wrong"], "2", is_right=False)
    add_trajectory(tree, ["good"], "1", is_right=True)
    add_trajectory(tree, ["bad"], "3", is_right=False)
    [(right, wrong)] = answer_pairs(merge([tree]), Examples(per_side=1))
    assert [step.text for step in right.path.steps[:-1]] == ["good"]
    assert [step.text for step in wrong.path.steps[:-1]] == ["bad"]
    assert len(answer_pairs(merge([tree]), SETTINGS)) == 4


def test_answers_of_one_program_are_compared() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["print"], "1", is_right=True)
    add_trajectory(tree, ["print"], "2", is_right=False)
    [pair] = pairs("p", [tree], SETTINGS)
    assert pair.better.steps[:-1] == pair.worse.steps[:-1]
    assert [text.rpartition(" ")[2] for text in texts(pair)] == ["\\boxed{1}.", "\\boxed{2}."]


def test_parted_trajectories_are_compared_at_equal_depth() -> None:
    tree = Tree("p")
    for name in ("good", "bad"):
        add_trajectory(tree, [f"{name} 1", f"{name} 2", f"{name} 3"], name, is_right=name == "good")
    answer = "\n<answer>The answer is \\boxed{%s}."
    assert [texts(pair) for pair in pairs("p", [tree], SETTINGS)] == [
        ("good 1", "bad 1"),
        (answer % "good", answer % "bad"),
        ("good 2", "bad 2"),
        ("good 3", "bad 3"),
    ]


def test_parted_steps_closer_than_the_margin_give_no_pair() -> None:
    root = merge([parted_at_a_doubtful_step()])
    found = [parted_pairs(root, Examples(per_side=1, margin=margin)) for margin in (0.5, 1.5)]
    assert [len(group) for group in found] == [2, 1]


def parted_at_a_doubtful_step() -> Tree:
    """The second step of the right trajectory has Q 0, the third 1; those of the wrong one have -1."""
    tree = Tree("p")
    add_trajectory(tree, ["a 1", "a 2", "a 3"], "1", is_right=True)
    add_trajectory(tree, ["a 1", "a 2", "another 3"], "2", is_right=False)
    add_trajectory(tree, ["b 1", "b 2", "b 3"], "3", is_right=False)
    return tree


def test_an_answer_is_not_compared_with_a_code_step() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a 1", "a 2"], "1", is_right=True)
    add_trajectory(tree, ["b 1", "b 2", "b 3"], "2", is_right=False)
    [(better, worse)] = parted_pairs(merge([tree]), SETTINGS)
    assert (better.path.steps[-1].text, worse.path.steps[-1].text) == ("a 2", "b 2")


def test_a_parted_step_that_leads_to_both_is_no_negative() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a 1", "a 2", "a 3"], "1", is_right=True)
    add_trajectory(tree, ["b 1", "b 2", "b 3"], "2", is_right=False)
    parted = [texts(pair) for pair in pairs("p", [tree], SETTINGS)][2:]
    assert parted == [("a 2", "b 2"), ("a 3", "b 3")]
    add_trajectory(tree, ["b 1", "b 2", "b 4", "b 5"], "1", is_right=True)
    found = parted_pairs(merge([tree]), Examples(per_side=1))
    assert [(one.path.steps[-1].text, other.path.steps[-1].text) for one, other in found] == [("a 3", "b 3")]


def test_a_comparison_that_comes_up_twice_counts_once() -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a 1", "a 2"], "1", is_right=True)
    for wrong in ("2", "3"):
        add_trajectory(tree, ["b 1", "b 2"], wrong, is_right=False)
    assert len(answer_pairs(merge([tree]), SETTINGS)) == 2
    assert len(parted_pairs(merge([tree]), SETTINGS)) == 1


def test_every_node_weighs_the_same_however_many_pairs_it_gives() -> None:
    tree = Tree("p")
    branch(tree, "a", right=1)
    branch(tree, "b", right=1)
    branch(tree, "x", wrong=1)
    weights = [pair.weight for pair in pairs("p", [tree], SETTINGS) if len(pair.better.steps) == 1]
    assert weights == [0.5, 0.5]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), st.sampled_from(Values))
def test_rules_hold_for_the_trees_of_real_searches(
    searched: Callable[[Sequence[int], Values], list[Tree]], seeds: list[int], values: Values
) -> None:
    trees = searched(seeds, values)
    root = merge(trees)
    groups = list(step_pairs(root, SETTINGS))
    for better, worse in (sides for group in groups for sides in group):
        assert better.path.steps[:-1] == worse.path.steps[:-1]
    found = pairs("p", trees, SETTINGS)
    assert not {pair.better for pair in found} & {pair.worse for pair in found}
    assert max(Counter((pair.better, pair.worse) for pair in found).values(), default=1) == 1
    sources = sum(map(bool, [*groups, answer_pairs(root, SETTINGS), parted_pairs(root, SETTINGS)]))
    assert sum(pair.weight for pair in found) == pytest.approx(sources)
    assert all(pair.problem_id == "p" and pair.better.problem == pair.worse.problem for pair in found)


def test_pairs_come_back_from_json(searched: Callable[[Sequence[int], Values], list[Tree]]) -> None:
    found = pairs("p", searched([1, 2], Values.PPM), SETTINGS)
    assert found
    assert [read_pair(json.loads(json.dumps(pair_record(pair)))) for pair in found] == found
