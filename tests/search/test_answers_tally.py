"""The tally: counting one by one, waiting for comparisons, and when the lead is final."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from search import Budget, Parts, SearchConfig, SearchResult, Selection, StopReason, Strategy
from search import search as run_search
from search.answers import AnswerGroup, Standing, Tally, is_decided, most_votes_ahead
from search.codec import load, save
from search.outcomes import CandidateStop, NodeOutcome, Verdict
from search.protocols import PathStep
from search.testing.fakes import (
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    SteppingClock,
    StringEquality,
    arithmetic_parts,
)
from search.tree import ROOT, Node, NodeId, Tree
from tests.search.searches import think

MAJORITY = SearchConfig(selection=Selection.MAJORITY)


def end(tree: Tree, answer: str | None) -> Node:
    """Add a finished trajectory of one step."""
    outcome = NodeOutcome.NO_ANSWER if answer is None else NodeOutcome.ANSWERED
    step = PathStep(text=f"{answer}", token_ids=(1,), stop=CandidateStop.END_OF_ANSWER)
    node = Node(id=tree.next_id, parent=ROOT, depth=1, step=step, outcome=outcome, answer=answer)
    tree.add(node)
    node.ends_trajectory = tree.trajectories
    node.visits += 1
    tree.root.visits += 1
    return node


async def counted(*answers: str | None, config: SearchConfig = MAJORITY) -> Tally:
    tree = Tree("p")
    tally = Tally(tree, config)
    for answer in answers:
        tally.add(end(tree, answer))
        while not tally.is_complete:
            if not tally.count_next():
                await tally.compare(StringEquality())
    return tally


async def test_the_lead_counts_from_when_it_was_taken_for_good() -> None:
    # b leads after three; after four there is a tie, which goes to the answer that came first.
    tally = await counted("a", "b", "b", "a", "a")
    assert (tally.standing.answer, tally.leads_since) == ("a", 4)


async def test_a_leader_from_the_start_leads_since_trajectory_one() -> None:
    tally = await counted("a", "b", "a")
    assert (tally.standing.answer, tally.leads_since) == ("a", 1)


async def test_failed_trajectories_count_on_the_way_to_the_answer() -> None:
    tally = await counted(None, None, "a", None)
    assert (tally.standing.answer, tally.leads_since, tally.counted) == ("a", 3, 4)


async def test_another_spelling_of_the_leading_answer_is_no_new_leader() -> None:
    tally = await counted("a", " a", "a ")
    assert tally.leads_since == 1
    assert [group.votes for group in tally.standing.groups] == [3]


async def test_without_an_answer_nobody_leads() -> None:
    assert (await counted(None, None)).leads_since is None


def test_an_answer_to_be_compared_delays_those_behind_it() -> None:
    tree = Tree("p")
    tally = Tally(tree, MAJORITY)
    for answer in ("a", "b", None):
        tally.add(end(tree, answer))
    assert tally.count_next()
    assert not tally.count_next()
    assert (tally.counted, tally.waiting) == (1, 2)


def test_what_was_never_compared_counts_as_different_at_the_end() -> None:
    tree = Tree("p")
    tally = Tally(tree, MAJORITY)
    for answer in ("a", " a", "b"):
        tally.add(end(tree, answer))
    tally.count_the_rest()
    assert [group.votes for group in tally.standing.groups] == [1, 1, 1]
    assert tally.is_complete


async def test_each_pair_is_asked_about_once() -> None:
    asked: list[tuple[str, str]] = []

    class Checker:
        async def same(self, a: str, b: str) -> Verdict:
            asked.append((a, b))
            return Verdict.DIFFERENT

    tree = Tree("p")
    tally = Tally(tree, MAJORITY)
    for answer in ("a", "b", "a", "b", "c"):
        tally.add(end(tree, answer))
        while not tally.count_next():
            await tally.compare(Checker())
    assert sorted(asked) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_loaded_tree_is_counted_as_it_came() -> None:
    parts = Parts(
        policy=ArithmeticPolicy(0.5),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.1),
    )
    config, budget = SearchConfig(candidates=4), Budget(trajectories=12)
    for seed in range(10):
        whole = asyncio.run(
            run_search("3+4+5", parts=parts, config=config, budget=budget, seed=seed, now=SteppingClock())
        )
        again = asyncio.run(
            run_search(
                "3+4+5",
                parts=parts,
                config=config,
                budget=budget,
                seed=seed,
                now=SteppingClock(),
                tree=load(save(whole.tree)),
            )
        )
        assert again.trajectories_to_answer == whole.trajectories_to_answer
        assert (whole.trajectories_to_answer is None) == (whole.answer is None)


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


def test_best_selection_and_no_answers_are_never_decided() -> None:
    assert not decided(9.0, gain=1, selection=Selection.BEST)
    assert not is_decided(Standing(), selection=Selection.MAJORITY, gain=0, loss=0, has_unknown=False)


def add(tree: Tree, parent: int, agreeing: int, outcome: NodeOutcome = NodeOutcome.OPEN) -> NodeId:
    above = tree[NodeId(parent)]
    tree.add(Node(id=tree.next_id, parent=above.id, depth=above.depth + 1, multiplicity=agreeing, outcome=outcome))
    return tree.nodes[-1].id


def test_votes_ahead_are_those_of_the_rarest_step_left() -> None:
    tree = Tree("p")
    assert most_votes_ahead(tree, tree.root, agreement=8) == 8
    common, rare = add(tree, ROOT, 6), add(tree, ROOT, 2)
    assert most_votes_ahead(tree, tree.root, agreement=8) == 6
    add(tree, common, 3)
    add(tree, common, 5, NodeOutcome.CODE_FAILED)
    add(tree, rare, 8)
    assert most_votes_ahead(tree, tree.root, agreement=8) == 3


def test_finished_ways_have_no_votes_ahead() -> None:
    tree = Tree("p")
    for _ in range(2):
        add(tree, ROOT, 4)
    tree.nodes[1].is_finished = True
    tree.nodes[2].is_finished = True
    assert most_votes_ahead(tree, tree.root, agreement=8) == 0


def solve(config: SearchConfig, *, seed: int, error_rate: float) -> SearchResult:
    budget = Budget(trajectories=14)
    return asyncio.run(think(arithmetic_parts(error_rate), config, budget, problem="3+4+5", seed=seed))


@given(
    st.integers(0, 10**6),
    st.floats(0, 0.6),
    st.sampled_from([Strategy.MCTS, Strategy.MAJORITY, Strategy.STEP_BEAM]),
    st.sampled_from([Selection.WEIGHTED_VOTE, Selection.MAJORITY]),
    st.sampled_from([None, 3, 16]),
    st.sampled_from([1, 4]),
)
def test_a_decided_search_has_the_answer_of_the_whole_search(
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
