"""Selection: UCT, PUCT, virtual loss, and room for another rollout."""

import math
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config import TreePolicy
from search.mcts import InFlight, parent_visits, policy_priors, puct, select_child, uct
from search.outcomes import CandidateStop, NodeOutcome
from search.protocols import PathStep
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


def test_parent_visits_are_its_prior_and_its_childrens_visits() -> None:
    tree = tree_of(child(1, visits=3, prior_visits=1), child(2, visits=1, prior_visits=1))
    assert parent_visits(tree, tree.root) == 4
    tree.root.prior_visits = tree.root.visits = 1
    assert parent_visits(tree, tree.root) == 5


def test_exploration_works_from_the_first_visit() -> None:
    # Two children with priors only: ln 2 > 0 although no trajectory has come through the parent.
    tree = tree_of(child(1, visits=1, prior_visits=1), child(2, visits=1, prior_visits=1))
    total = parent_visits(tree, tree.root)
    assert uct(tree.nodes[1], parent_visits=total, exploration=2.0) > 1.6


def test_an_unvisited_child_comes_before_the_best_visited_one() -> None:
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


def test_a_rollout_in_flight_is_a_visit_of_value_minus_one() -> None:
    # Q = (1.2 - 2) / (3 + 2) = -0.16;  2 * sqrt(ln 8 / 5) = 1.28979
    node = child(1, value_sum=1.2, visits=3)
    assert uct(node, parent_visits=8, exploration=2.0, losses=2) == pytest.approx(-0.16 + 1.28979, abs=1e-5)


def test_virtual_loss_sends_the_next_rollout_another_way() -> None:
    tree = tree_of(child(1, value_sum=0.6, visits=1, prior_visits=1), child(2, value_sum=0.2, visits=1, prior_visits=1))
    in_flight = InFlight(tree)
    assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) == 1
    in_flight.enter(NodeId(1))
    # N_parent = 3:  1: (0.6 - 1) / 2 + 2 sqrt(ln 3 / 2) = 1.28;  2: 0.2 + 2 sqrt(ln 3) = 2.30
    assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) == 2
    in_flight.leave([NodeId(1)])
    assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) == 1


def test_an_unvisited_child_with_a_rollout_is_not_infinite() -> None:
    tree = tree_of(child(1), child(2))
    in_flight = InFlight(tree)
    in_flight.enter(NodeId(1))
    assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) == 2


def test_a_child_that_is_being_expanded_is_passed_over() -> None:
    tree = tree_of(child(1, value_sum=1.0, visits=1), child(2, value_sum=-1.0, visits=1))
    in_flight = InFlight(tree)
    with in_flight.expanding(NodeId(1)):
        assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) == 2
        with in_flight.expanding(NodeId(2)):
            assert select_child(tree, ROOT, exploration=2.0, in_flight=in_flight) is None


def test_puct_explores_in_proportion_to_the_prior() -> None:
    # Q = 1.2 / 3 = 0.4;  2 * 0.25 * sqrt(16) / (1 + 3) = 0.5
    node = child(1, value_sum=1.2, visits=3)
    assert puct(node, prior=0.25, parent_visits=16, exploration=2.0) == pytest.approx(0.9)
    # With one rollout in flight Q = 0.2 / 4 and the last divisor is 5.
    assert puct(node, prior=0.25, parent_visits=16, exploration=2.0, losses=1) == pytest.approx(0.05 + 0.4)
    assert puct(child(2), prior=0.25, parent_visits=16, exploration=2.0) == pytest.approx(2.0)


def written(id: int, *, logprob: float, tokens: int, multiplicity: int = 1, is_dead: bool = False) -> Node:
    """A step of `tokens` tokens."""
    node = child(id, visits=1, prior_visits=1, outcome=NodeOutcome.CODE_FAILED if is_dead else NodeOutcome.OPEN)
    node.step = PathStep(text=f"{id}", token_ids=tuple(range(tokens)), stop=CandidateStop.END_OF_STEP)
    node.logprob, node.multiplicity = logprob, multiplicity
    return node


def test_the_policys_prior_is_per_token_and_counts_agreement() -> None:
    priors = policy_priors([written(1, logprob=-1.0, tokens=4), written(2, logprob=-4.0, tokens=4, multiplicity=3)])
    # e^-0.25 = 0.7788 against 3 e^-1 = 1.1036.
    assert priors == {1: pytest.approx(0.7788 / 1.8824, abs=1e-4), 2: pytest.approx(1.1036 / 1.8824, abs=1e-4)}


def test_a_long_step_is_not_thought_less_likely_for_its_length() -> None:
    priors = policy_priors([written(1, logprob=-2.0, tokens=4), written(2, logprob=-40.0, tokens=80)])
    assert priors == {1: pytest.approx(0.5), 2: pytest.approx(0.5)}


def test_dead_siblings_have_no_share_in_the_prior() -> None:
    priors = policy_priors([written(1, logprob=-1.0, tokens=4), written(2, logprob=-1.0, tokens=4, is_dead=True)])
    assert priors == {1: pytest.approx(1.0)}


def test_priors_of_very_unlikely_steps_add_up_to_one() -> None:
    priors = policy_priors([written(id, logprob=-1e6, tokens=1) for id in (1, 2)])
    assert sum(priors.values()) == pytest.approx(1.0)


def test_puct_follows_the_policy_where_uct_follows_the_score() -> None:
    likely, good = written(1, logprob=-1.0, tokens=4), written(2, logprob=-40.0, tokens=4)
    good.value_sum = 0.5
    tree = tree_of(likely, good)
    assert select_child(tree, ROOT, exploration=2.0) == 2
    assert select_child(tree, ROOT, exploration=2.0, tree_policy=TreePolicy.PUCT) == 1


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 0)), min_size=2, max_size=4),
    st.sampled_from(TreePolicy),
)
def test_every_child_is_chosen_at_last_whatever_score_and_prior(
    children: list[tuple[float, float]], tree_policy: TreePolicy
) -> None:
    # Everywhere else a trajectory is worth 1, here -1: the worst case. With P of at least e^-1 / 4 a child that nobody
    # has come to wins under PUCT once 2 P sqrt(N_parent) (1/2 - 1/4) > 2, which is so before 2,000 visits.
    tree = tree_of(*(written(id, logprob=4 * logprob, tokens=4) for id, (_, logprob) in enumerate(children, start=1)))
    for node, (score, _) in zip(tree.nodes[1:], children, strict=True):
        node.score = node.value_sum = score
    for _ in range(2_000):
        chosen = select_child(tree, ROOT, exploration=2.0, tree_policy=tree_policy)
        assert chosen is not None
        tree[chosen].visits += 1
        tree[chosen].value_sum += 1.0
    assert all(node.visits > 1 for node in tree.nodes[1:])


def add(tree: Tree, parent: int, outcome: NodeOutcome = NodeOutcome.OPEN) -> NodeId:
    node = Node(id=tree.next_id, parent=NodeId(parent), depth=tree[NodeId(parent)].depth + 1, outcome=outcome)
    tree.add(node)
    return node.id


def test_a_rollout_counts_at_every_node_of_its_path() -> None:
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
    assert [in_flight.losses(node_id) for node_id in (ROOT, a, b)] == [0, 0, 0]


def test_a_node_being_expanded_has_no_room_but_its_sibling_has() -> None:
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


def test_an_answer_has_room_for_one_trajectory() -> None:
    tree = Tree("p")
    answer = add(tree, ROOT, NodeOutcome.ANSWERED)
    in_flight = InFlight(tree)
    assert in_flight.has_room(ROOT)
    tree[answer].visits = 1
    tree.settle(answer)
    in_flight.update(answer)
    assert not in_flight.has_room(ROOT)


@given(st.data())
def test_there_is_room_exactly_where_a_leaf_can_be_expanded(data: st.DataObject) -> None:
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
