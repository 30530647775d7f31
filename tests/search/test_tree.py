"""The tree: adding and settling nodes, priors, and backing up values."""

import pytest

from search.outcomes import CandidateStop, NodeOutcome
from search.protocols import PathStep
from search.tree import ROOT, Node, NodeId, Tree, backup, give_prior, trajectory_value


def grow(tree: Tree, parent: int, outcome: NodeOutcome = NodeOutcome.OPEN, *, tokens: int = 0) -> NodeId:
    node_id = tree.next_id
    step = PathStep(text=f"step {node_id}", token_ids=(), stop=CandidateStop.END_OF_STEP)
    above = NodeId(parent)
    tree.add(Node(id=node_id, parent=above, depth=tree[above].depth + 1, step=step, outcome=outcome, tokens=tokens))
    return node_id


def test_a_new_tree_is_its_root() -> None:
    tree = Tree("p")
    assert tree.nodes == [tree.root]
    assert tree.root.id == ROOT
    assert (tree.trajectories, tree.tokens, tree.root.value) == (0, 0, 0.0)


def test_the_path_of_a_node_holds_the_steps_from_the_root_down() -> None:
    tree = Tree("p")
    below = grow(tree, grow(tree, ROOT))
    grow(tree, ROOT)
    assert [step.text for step in tree.path(below).steps] == ["step 1", "step 2"]
    assert tree.path(ROOT).steps == ()
    assert tree.path(below).problem == "p"


def test_tokens_of_a_tree_include_dead_nodes() -> None:
    tree = Tree("p")
    grow(tree, ROOT, tokens=3)
    grow(tree, ROOT, NodeOutcome.CODE_FAILED, tokens=4)
    assert tree.tokens == 7


def test_a_node_with_dead_children_only_is_childless() -> None:
    tree = Tree("p")
    outer = grow(tree, ROOT)
    inner = grow(tree, outer)
    grow(tree, inner, NodeOutcome.CODE_FAILED)
    grow(tree, inner, NodeOutcome.NO_ANSWER)
    tree.settle(inner)
    assert [tree[NodeId(i)].outcome for i in (0, 1, 2)] == [NodeOutcome.CHILDLESS] * 3
    assert tree.root.is_finished


def test_a_live_sibling_keeps_the_parent_open() -> None:
    tree = Tree("p")
    doomed = grow(tree, ROOT)
    grow(tree, ROOT)
    grow(tree, doomed, NodeOutcome.CUT_OFF)
    tree.settle(doomed)
    assert tree[doomed].outcome is NodeOutcome.CHILDLESS
    assert tree.root.outcome is NodeOutcome.OPEN
    assert not tree.root.is_finished


def test_a_node_is_finished_once_each_answer_below_was_reached() -> None:
    tree = Tree("p")
    code = grow(tree, ROOT)
    first = grow(tree, code, NodeOutcome.ANSWERED)
    second = grow(tree, code, NodeOutcome.ANSWERED)
    tree[first].visits = 1
    tree.settle(first)
    assert tree[first].is_finished
    assert not tree[code].is_finished
    tree[second].visits = 1
    tree.settle(second)
    assert tree[code].is_finished
    assert tree[code].outcome is NodeOutcome.OPEN


def test_a_prior_visit_does_not_make_an_answer_a_trajectory() -> None:
    tree = Tree("p")
    answered = grow(tree, ROOT, NodeOutcome.ANSWERED)
    tree[answered].visits = tree[answered].prior_visits = 1
    tree.settle(answered)
    assert not tree[answered].is_finished


def test_closing_a_node_finishes_it() -> None:
    tree = Tree("p")
    closed = grow(tree, ROOT)
    grow(tree, ROOT)
    tree.close(closed, NodeOutcome.TOO_DEEP)
    assert tree[closed].is_finished
    assert tree[closed].is_dead
    assert not tree.root.is_finished


def test_grafting_puts_a_branch_below_the_root_under_new_ids() -> None:
    tree, branch = Tree("p"), Tree("p")
    grow(tree, ROOT)
    grow(branch, grow(branch, ROOT))
    assert tree.graft(branch) == [2, 3]
    assert tree.root.children == [1, 2]
    assert [(node.id, node.parent, node.depth, node.children) for node in tree.nodes[2:]] == [
        (2, 0, 1, [3]),
        (3, 2, 2, []),
    ]
    assert branch.nodes[2].id == 2


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
