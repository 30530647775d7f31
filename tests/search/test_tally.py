"""The tally: counting one by one, waiting for comparisons, and since when the leader leads."""

import asyncio

from search import Budget, Parts, SearchConfig, Selection
from search import search as run_search
from search.codec import load, save
from search.outcomes import CandidateStop, NodeOutcome, Verdict
from search.protocols import PathStep
from search.tally import Tally
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, SteppingClock, StringEquality
from search.tree import ROOT, Node, Tree

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


async def test_a_leader_from_the_start_leads_since_the_first_trajectory() -> None:
    tally = await counted("a", "b", "a")
    assert (tally.standing.answer, tally.leads_since) == ("a", 1)


async def test_failed_trajectories_are_counted_on_the_way_to_the_answer() -> None:
    tally = await counted(None, None, "a", None)
    assert (tally.standing.answer, tally.leads_since, tally.counted) == ("a", 3, 4)


async def test_another_spelling_of_the_leading_answer_is_no_new_leader() -> None:
    tally = await counted("a", " a", "a ")
    assert tally.leads_since == 1
    assert [group.votes for group in tally.standing.groups] == [3]


async def test_without_an_answer_nobody_leads() -> None:
    assert (await counted(None, None)).leads_since is None


def test_an_answer_that_must_be_compared_holds_up_those_behind_it() -> None:
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
