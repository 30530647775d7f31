"""When the leader cannot be overtaken any more, and how many votes may still come."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from search import Budget, Parts, SearchConfig, SearchResult, Selection, StopReason, Strategy
from search import search as run_search
from search.answers import AnswerGroup, Standing
from search.expansion import request_seed
from search.outcomes import NodeOutcome
from search.protocols import Path
from search.tally import is_decided, most_votes_ahead
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, SteppingClock, StringEquality
from search.tree import ROOT, Node, NodeId, Tree


def decided(
    *weights: float,
    gain: int,
    loss: int = 0,
    selection: Selection = Selection.WEIGHTED_VOTE,
    has_unknown: bool = False,
) -> bool:
    groups = tuple(
        AnswerGroup(answer=str(i), votes=int(weight) + 1, weight=weight, score=0.9, node_ids=(NodeId(i),))
        for i, weight in enumerate(weights)
    )
    return is_decided(Standing(groups=groups), selection=selection, gain=gain, loss=loss, has_unknown=has_unknown)


def test_the_leader_is_safe_when_the_rest_cannot_catch_up() -> None:
    assert decided(4.1, 2.0, gain=2)
    assert not decided(4.0, 2.0, gain=2)


def test_a_new_answer_may_still_overtake_a_lone_leader() -> None:
    assert not decided(1.9, gain=2)
    assert decided(2.1, gain=2)


def test_rivals_that_may_be_one_answer_count_together() -> None:
    assert decided(4.1, 1.5, 1.5, gain=2)
    assert not decided(4.1, 1.5, 1.5, gain=2, has_unknown=True)


def test_votes_that_the_leader_may_lose_count_too() -> None:
    assert decided(4.1, 2.0, gain=1, loss=1)
    assert not decided(4.1, 2.0, gain=1, loss=2)


def test_majority_compares_votes() -> None:
    assert decided(4.0, 1.0, gain=2, selection=Selection.MAJORITY)  # 5 votes against 2
    assert not decided(4.0, 1.0, gain=3, selection=Selection.MAJORITY)


def test_the_best_score_can_always_be_outdone_and_nothing_decides_nothing() -> None:
    assert not decided(9.0, gain=1, selection=Selection.BEST)
    assert not is_decided(Standing(), selection=Selection.MAJORITY, gain=0, loss=0, has_unknown=False)


def add(tree: Tree, parent: int, agreeing: int, outcome: NodeOutcome = NodeOutcome.OPEN) -> NodeId:
    above = tree[NodeId(parent)]
    tree.add(Node(id=tree.next_id, parent=above.id, depth=above.depth + 1, multiplicity=agreeing, outcome=outcome))
    return tree.nodes[-1].id


def test_votes_ahead_are_those_of_the_rarest_step_on_the_best_way_left() -> None:
    tree = Tree("p")
    assert most_votes_ahead(tree, candidates=8) == 8
    common, rare = add(tree, ROOT, 6), add(tree, ROOT, 2)
    assert most_votes_ahead(tree, candidates=8) == 6
    add(tree, common, 3)
    add(tree, common, 5, NodeOutcome.CODE_FAILED)
    add(tree, rare, 8)
    assert most_votes_ahead(tree, candidates=8) == 3


def test_finished_ways_have_no_votes_ahead() -> None:
    tree = Tree("p")
    for _ in range(2):
        add(tree, ROOT, 4)
    tree.nodes[1].is_finished = True
    tree.nodes[2].is_finished = True
    assert most_votes_ahead(tree, candidates=8) == 0


def hashed_score(path: Path) -> float:
    return request_seed(1, path, draw=0) / 2**62 - 1.0


def solve(config: SearchConfig, *, seed: int, error_rate: float) -> SearchResult:
    parts = Parts(
        policy=ArithmeticPolicy(error_rate),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(hashed_score),
    )
    budget = Budget(trajectories=14)
    return asyncio.run(
        run_search("3+4+5", parts=parts, config=config, budget=budget, seed=seed, now=SteppingClock(0.0))
    )


@given(
    st.integers(0, 10**6),
    st.floats(0, 0.6),
    st.sampled_from([Strategy.MCTS, Strategy.MAJORITY, Strategy.STEP_BEAM]),
    st.sampled_from([Selection.WEIGHTED_VOTE, Selection.MAJORITY]),
    st.sampled_from([None, 3, 16]),
    st.sampled_from([1, 4]),
)
def test_a_search_stopped_as_decided_has_the_answer_of_the_whole_search(
    seed: int, error_rate: float, strategy: Strategy, selection: Selection, top_k: int | None, parallel: int
) -> None:
    early, whole = (
        solve(
            SearchConfig(
                strategy=strategy,
                candidates=4,
                beam_width=4,
                selection=selection,
                top_k=top_k,
                parallel_rollouts=parallel,
                stop_when_decided=stop,
            ),
            seed=seed,
            error_rate=error_rate,
        )
        for stop in (True, False)
    )
    assert early.answer == whole.answer
    assert early.tree.trajectories <= whole.tree.trajectories


def test_a_decided_tree_search_stops_early() -> None:
    config = SearchConfig(candidates=4, stop_when_decided=True)
    results = [solve(config, seed=seed, error_rate=0.2) for seed in range(8)]
    stopped = [result for result in results if result.stop_reason is StopReason.CONVERGED]
    assert stopped
    assert all(result.tree.trajectories < 14 for result in stopped)
