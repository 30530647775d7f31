"""Backup: priors, and one trajectory's value on every node of its path."""

import pytest

from search.outcomes import NodeOutcome
from search.tree import ROOT, Node, NodeId, Tree, backup, give_prior, trajectory_value


def chain_with_sibling() -> Tree:
    """0 - 1 - 2 (answered), and 3 beside 1."""
    tree = Tree("p")
    tree.add(Node(id=NodeId(1), parent=ROOT, depth=1))
    tree.add(Node(id=NodeId(2), parent=NodeId(1), depth=2, outcome=NodeOutcome.ANSWERED, terminal_value=-1.0))
    tree.add(Node(id=NodeId(3), parent=ROOT, depth=1))
    return tree


def test_a_prior_is_the_first_value_and_counts_as_one_visit() -> None:
    node = Node(id=NodeId(1), parent=ROOT, depth=1)
    give_prior(node, 0.7)
    assert (node.value_sum, node.visits, node.prior_visits, node.trajectories) == (0.7, 1, 1, 0)
    assert node.value == 0.7


def test_backup_adds_the_value_from_the_end_to_the_root() -> None:
    tree = chain_with_sibling()
    give_prior(tree.nodes[1], 0.5)
    backup(tree, NodeId(2))
    assert [(node.visits, node.value_sum) for node in tree.nodes[:3]] == [(1, -1.0), (2, -0.5), (1, -1.0)]
    assert tree.nodes[1].value == -0.25


def test_backup_leaves_siblings_unchanged() -> None:
    tree = chain_with_sibling()
    backup(tree, NodeId(2))
    assert (tree.nodes[3].visits, tree.nodes[3].value_sum) == (0, 0.0)


@pytest.mark.parametrize("outcome", [o for o in NodeOutcome if o is not NodeOutcome.ANSWERED])
def test_a_trajectory_without_an_answer_is_worth_minus_one(outcome: NodeOutcome) -> None:
    assert trajectory_value(Node(id=ROOT, parent=None, depth=0, outcome=outcome)) == -1.0


def test_an_answer_nobody_judged_or_scored_is_worth_nothing() -> None:
    assert trajectory_value(Node(id=ROOT, parent=None, depth=0, outcome=NodeOutcome.ANSWERED)) == 0.0
