"""Selection: equation 1, and the order of choice."""

import math

import pytest

from search.outcomes import NodeOutcome
from search.selection import parent_visits, select_child, uct
from search.tree import ROOT, Node, NodeId, Tree


def tree_of(*children: Node) -> Tree:
    tree = Tree("p")
    for child in children:
        tree.add(child)
    return tree


def child(
    id: int,
    *,
    value_sum: float = 0.0,
    visits: int = 0,
    prior_visits: int = 0,
    outcome: NodeOutcome = NodeOutcome.OPEN,
) -> Node:
    return Node(
        id=NodeId(id),
        parent=ROOT,
        depth=1,
        outcome=outcome,
        value_sum=value_sum,
        visits=visits,
        prior_visits=prior_visits,
    )


def test_uct_is_value_plus_exploration() -> None:
    # Q = 1.2 / 3 = 0.4;  2 * sqrt(ln 8 / 3) = 1.66511
    node = child(1, value_sum=1.2, visits=3)
    assert uct(node, parent_visits=8, exploration=2.0) == pytest.approx(0.4 + 1.66511, abs=1e-5)


def test_a_child_without_visits_is_infinitely_attractive() -> None:
    assert uct(child(1), parent_visits=5, exploration=2.0) == math.inf


def test_the_parents_visits_are_its_prior_and_all_visits_of_its_children() -> None:
    tree = tree_of(child(1, visits=3, prior_visits=1), child(2, visits=1, prior_visits=1))
    assert parent_visits(tree, tree.root) == 4
    tree.root.prior_visits = tree.root.visits = 1
    assert parent_visits(tree, tree.root) == 5


def test_exploration_works_from_the_first_visit() -> None:
    # Two children with priors only: ln 2 > 0 although no trajectory has come through the parent.
    tree = tree_of(child(1, visits=1, prior_visits=1), child(2, visits=1, prior_visits=1))
    total = parent_visits(tree, tree.root)
    assert uct(tree.nodes[1], parent_visits=total, exploration=2.0) > 1.6


def test_a_child_without_visits_comes_before_the_best_of_the_others() -> None:
    tree = tree_of(child(1, value_sum=9.0, visits=9), child(2))
    assert select_child(tree, ROOT, exploration=2.0) == 2


def test_ties_go_to_the_lowest_id() -> None:
    tree = tree_of(*(child(id, value_sum=0.5, visits=1, prior_visits=1) for id in (1, 2, 3)))
    assert select_child(tree, ROOT, exploration=2.0) == 1
    assert select_child(tree_of(child(1), child(2)), ROOT, exploration=2.0) == 1


def test_dead_and_finished_children_are_never_selected() -> None:
    tree = tree_of(
        child(1, outcome=NodeOutcome.CODE_FAILED),
        child(2, value_sum=2.0, visits=2),
        child(3, value_sum=-1.0, visits=1),
    )
    tree.nodes[2].is_finished = True
    assert select_child(tree, ROOT, exploration=2.0) == 3
    tree.nodes[3].is_finished = True
    assert select_child(tree, ROOT, exploration=2.0) is None


def test_a_node_without_children_has_none_to_select() -> None:
    assert select_child(Tree("p"), ROOT, exploration=2.0) is None


def test_without_exploration_the_greatest_value_wins() -> None:
    tree = tree_of(child(1, value_sum=0.2, visits=1), child(2, value_sum=3.0, visits=9))
    assert select_child(tree, ROOT, exploration=0.0) == 2
