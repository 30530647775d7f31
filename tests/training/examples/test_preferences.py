"""Preference pairs are read off trees by Q, and no step is on both sides."""

from search import NodeId, NodeOutcome, Tree
from search.outcomes import CandidateStop
from search.protocols import PathStep
from search.tree import ROOT, Node
from training.examples.preferences import Pair, PairConfig, pairs


def add(tree: Tree, parent: NodeId, text: str, *, q: float, outcome: NodeOutcome = NodeOutcome.OPEN) -> NodeId:
    """A node visited once with value `q`; an answered one ends a trajectory of terminal value `q`."""
    answered = outcome is NodeOutcome.ANSWERED
    stop = CandidateStop.END_OF_ANSWER if answered else CandidateStop.END_OF_STEP
    node = Node(
        id=tree.next_id,
        parent=parent,
        depth=tree[parent].depth + 1,
        step=PathStep(text=text, token_ids=(1,), stop=stop),
        outcome=outcome,
        terminal_value=q if answered else None,
        visits=1,
        value_sum=q,
    )
    tree.add(node)
    return node.id


def branch(tree: Tree, text: str, *, q: float, ends: float) -> NodeId:
    """A step below the root and an answer below it."""
    step = add(tree, ROOT, text, q=q)
    add(tree, step, f"{text}: answer", q=ends, outcome=NodeOutcome.ANSWERED)
    return step


def texts(pair: Pair) -> tuple[str, str]:
    return pair.better.steps[-1].text, pair.worse.steps[-1].text


def test_best_right_steps_stand_against_worst_wrong_ones() -> None:
    tree = Tree("p")
    for text, q, ends in (("a", 1.0, 1.0), ("b", 0.8, 1.0), ("c", 0.7, 1.0), ("x", -1.0, -1.0), ("y", -0.9, -1.0)):
        branch(tree, text, q=q, ends=ends)
    found = [texts(pair) for pair in pairs(tree, PairConfig()) if len(pair.better.steps) == 1]
    assert found == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_a_step_that_leads_to_both_is_never_a_negative() -> None:
    tree = Tree("p")
    mixed = branch(tree, "mixed", q=-0.2, ends=1.0)
    add(tree, mixed, "mixed: wrong answer", q=-1.0, outcome=NodeOutcome.ANSWERED)
    branch(tree, "wrong", q=-1.0, ends=-1.0)
    step_pairs = [texts(pair) for pair in pairs(tree, PairConfig()) if len(pair.better.steps) == 1]
    assert step_pairs == [("mixed", "wrong")]


def test_answer_pairs_need_no_common_prefix_and_rank_by_mean_q() -> None:
    tree = Tree("p")
    branch(tree, "good", q=1.0, ends=1.0)
    branch(tree, "bad", q=-1.0, ends=-1.0)
    answers = [texts(pair) for pair in pairs(tree, PairConfig()) if len(pair.better.steps) == 2]
    assert answers == [("good: answer", "bad: answer")]


def test_sides_closer_than_the_margin_give_no_step_pair() -> None:
    tree = Tree("p")
    branch(tree, "a", q=0.1, ends=1.0)
    branch(tree, "b", q=-0.1, ends=-1.0)
    assert not [pair for pair in pairs(tree, PairConfig(margin=0.5)) if len(pair.better.steps) == 1]


def test_trees_that_are_all_right_or_all_wrong_give_nothing() -> None:
    for value in (1.0, -1.0):
        tree = Tree("p")
        branch(tree, "a", q=value, ends=value)
        branch(tree, "b", q=value, ends=value)
        assert not list(pairs(tree, PairConfig()))


def test_every_node_weighs_the_same_however_many_pairs_it_gives() -> None:
    tree = Tree("p")
    for text, value in (("a", 1.0), ("b", 1.0), ("x", -1.0)):
        branch(tree, text, q=value, ends=value)
    step_pairs = [pair for pair in pairs(tree, PairConfig()) if len(pair.better.steps) == 1]
    assert [pair.weight for pair in step_pairs] == [0.5, 0.5]


def test_an_answer_that_no_rollout_reached_is_not_evidence() -> None:
    tree = Tree("p")
    branch(tree, "a", q=1.0, ends=1.0)
    step = add(tree, ROOT, "b", q=-1.0)
    tree[add(tree, step, "unvisited", q=-1.0, outcome=NodeOutcome.ANSWERED)].visits = 0
    assert not list(pairs(tree, PairConfig()))


def test_parted_trajectories_are_compared_at_equal_depth() -> None:
    tree = Tree("p")
    for name, value in (("good", 1.0), ("bad", -1.0)):
        first = add(tree, ROOT, f"{name} 1", q=value)
        second = add(tree, first, f"{name} 2", q=value)
        third = add(tree, second, f"{name} 3", q=value)
        add(tree, third, f"{name} answer", q=value, outcome=NodeOutcome.ANSWERED)
    assert [texts(pair) for pair in pairs(tree, PairConfig())] == [
        ("good 1", "bad 1"),
        ("good answer", "bad answer"),
        ("good 2", "bad 2"),
        ("good 3", "bad 3"),
    ]
