"""The tree: adding, paths, grafting, and what is finished."""

from search.outcomes import CandidateStop, NodeOutcome
from search.protocols import PathStep
from search.tree import ROOT, Node, NodeId, Tree


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


def test_tokens_of_a_tree_are_those_of_its_nodes_dead_ones_included() -> None:
    tree = Tree("p")
    grow(tree, ROOT, tokens=3)
    grow(tree, ROOT, NodeOutcome.CODE_FAILED, tokens=4)
    assert tree.tokens == 7


def test_a_node_whose_children_are_all_dead_is_childless_and_so_is_its_parent() -> None:
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
