"""Rollouts in flight: virtual loss, and where there is room for another."""

from contextlib import AbstractContextManager

from hypothesis import given
from hypothesis import strategies as st

from search.outcomes import NodeOutcome
from search.selection import InFlight
from search.tree import ROOT, Node, NodeId, Tree


def add(tree: Tree, parent: int, outcome: NodeOutcome = NodeOutcome.OPEN) -> NodeId:
    node = Node(id=tree.next_id, parent=NodeId(parent), depth=tree[NodeId(parent)].depth + 1, outcome=outcome)
    tree.add(node)
    return node.id


def test_a_rollout_counts_at_every_node_it_has_come_to_until_it_leaves() -> None:
    tree = Tree("p")
    a, b = add(tree, ROOT), add(tree, ROOT)
    in_flight = InFlight(tree)
    for path in ((ROOT, a), (ROOT, b)):
        for node_id in path:
            in_flight.enter(node_id)
    assert [in_flight.losses(node_id) for node_id in (ROOT, a, b)] == [2, 1, 1]
    in_flight.leave((ROOT, a))
    assert [in_flight.losses(node_id) for node_id in (ROOT, a, b)] == [1, 0, 1]
    in_flight.leave((ROOT, b))
    assert in_flight.is_empty


def test_a_node_that_is_being_expanded_has_no_room_and_its_sibling_has() -> None:
    tree = Tree("p")
    a, b = add(tree, ROOT), add(tree, ROOT)
    in_flight = InFlight(tree)
    with in_flight.expanding(b):
        with in_flight.expanding(a):
            assert not in_flight.has_room(ROOT)
        assert [in_flight.has_room(node_id) for node_id in (ROOT, a, b)] == [True, True, False]
    assert all(in_flight.has_room(node_id) for node_id in (ROOT, a, b))


def test_a_dead_child_makes_no_room() -> None:
    tree = Tree("p")
    add(tree, ROOT, NodeOutcome.CODE_FAILED)
    a = add(tree, ROOT)
    in_flight = InFlight(tree)
    with in_flight.expanding(a):
        assert not in_flight.has_room(ROOT)


def test_an_answer_has_room_for_the_one_trajectory_that_ends_there() -> None:
    tree = Tree("p")
    answer = add(tree, ROOT, NodeOutcome.ANSWERED)
    in_flight = InFlight(tree)
    assert in_flight.has_room(ROOT)
    tree[answer].visits = 1
    tree.settle(answer)
    in_flight.update(answer)
    assert not in_flight.has_room(ROOT)


@given(st.data())
def test_there_is_room_exactly_where_some_leaf_is_neither_finished_nor_being_expanded(data: st.DataObject) -> None:
    tree = Tree("p")
    in_flight = InFlight(tree)
    expanding: dict[NodeId, AbstractContextManager[None]] = {}

    def leaves_below(node: Node) -> list[Node]:
        if not node.children:
            return [node]
        return [leaf for child in tree.children(node) for leaf in leaves_below(child)]

    for _ in range(data.draw(st.integers(1, 12))):
        leaves = [leaf for leaf in leaves_below(tree.root) if not leaf.is_finished]
        if not leaves:
            break
        leaf = data.draw(st.sampled_from(leaves))
        if leaf.id not in expanding:
            expanding[leaf.id] = in_flight.expanding(leaf.id)
            expanding[leaf.id].__enter__()
        else:
            outcomes = st.sampled_from([NodeOutcome.OPEN, NodeOutcome.CODE_FAILED])
            for outcome in data.draw(st.lists(outcomes, min_size=1, max_size=3)):
                add(tree, leaf.id, outcome)
            tree.settle(leaf.id)
            expanding.pop(leaf.id).__exit__(None, None, None)
        for node in tree.nodes:
            room = any(not leaf.is_finished and leaf.id not in expanding for leaf in leaves_below(node))
            assert in_flight.has_room(node.id) == room
