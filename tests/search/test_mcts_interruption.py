"""Searches that are cut short with rollouts in flight: nothing is left running, and the tree is whole."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, NodeAdded, SearchConfig, StopReason, Tree
from search.calls import CallKind, operations
from search.codec import load, save
from search.events import Event
from search.mcts import Rollouts
from search.outcomes import ExecutionOutcome, NodeOutcome
from search.protocols import Candidate, Execution, Parts, Path
from search.record import Beginning
from search.run import Run
from search.testing.delays import Delays
from search.testing.fakes import (
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    arithmetic_parts,
    last_step,
    step,
)
from search.testing.invariants import check_invariants
from tests.search.searches import PROBLEM, scripted, think

seeds = st.integers(0, 10**6)
widths = st.integers(2, 9)


@dataclass
class Stopping:
    """Lets `calls` calls through, then stalls, or fails, for ever."""

    calls: int
    fails: bool
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, kind: CallKind, size: int) -> None:
        self.calls -= 1
        if self.calls >= 0:
            for _ in range(size % 3):
                await asyncio.sleep(0)
            return
        if self.fails:
            raise ConnectionError("the part is gone")
        self.stalled.set()
        await asyncio.Event().wait()


@given(seeds, widths, st.builds(Stopping, st.integers(0, 60), st.booleans()))
def test_an_interrupted_search_leaves_a_tree_to_be_continued(seed: int, width: int, stopping: Stopping) -> None:
    delays = Delays(stopping)
    config = SearchConfig(candidates=4, parallel_rollouts=width)
    tree = Tree(PROBLEM)

    async def interrupted() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(ended())
            stalled = group.create_task(stopping.stalled.wait())
            await asyncio.wait([task, stalled], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            stalled.cancel()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def ended() -> None:
        try:
            await think(delays.wrap(arithmetic_parts()), config, Budget(trajectories=12), seed=seed, tree=tree)
        except ConnectionError:
            assert stopping.fails

    asyncio.run(interrupted())
    assert delays.in_flight == 0
    check_invariants(tree)
    loaded = load(json.loads(json.dumps(save(tree))))
    result = asyncio.run(think(arithmetic_parts(), config, Budget(trajectories=12), seed=seed, tree=loaded))
    check_invariants(result.tree)
    assert result.tree.trajectories == 12 or result.stop_reason is StopReason.EXHAUSTED


@pytest.mark.parametrize("kind", [CallKind.POLICY, CallKind.RUNNER, CallKind.SCORER])
async def test_cancelling_with_16_candidates_in_flight_ends_every_call(kind: CallKind) -> None:
    """Sixteen children a node, four rollouts: the calls of one kind stall, until all of the kind are in flight."""
    width, candidates = 4, 16
    full = asyncio.Event()
    wanted = width * candidates if kind is CallKind.RUNNER else width

    async def pause(asked: CallKind, size: int) -> None:
        # The root is everybody's way: its own expansion goes through.
        if asked is kind and delays.counts[CallKind.POLICY].begun > 1:
            if delays.counts[kind].in_flight >= wanted:
                full.set()
            await asyncio.Event().wait()

    class Bushy:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            return [step(f"s{len(path.steps)} = {i}") for i in range(n)]

    delays = Delays(pause)
    tree = Tree(PROBLEM)
    config = SearchConfig(candidates=candidates, parallel_rollouts=width)
    given_parts = delays.wrap(scripted(Bushy(), ScriptedRunner()))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(think(given_parts, config, Budget(trajectories=100), tree=tree))
        await full.wait()
        assert delays.in_flight == wanted
        task.cancel()
    assert task.cancelled()
    assert delays.in_flight == 0
    assert all(counts.begun == counts.ended for counts in delays.counts.values())
    assert asyncio.all_tasks() == {asyncio.current_task()}
    check_invariants(tree)


def run_of(tree: Tree, parts: Parts, budget: Budget) -> Run:
    beginning = Beginning(
        problem=tree.problem,
        config=SearchConfig(candidates=4, parallel_rollouts=3),
        budget=budget,
        seed=1,
        has_scorer=True,
        has_judge=False,
        tree=tree,
    )
    return Run(beginning, parts_for=lambda _: parts, now=SteppingClock())


async def test_virtual_loss_lasts_until_rollouts_are_given_up() -> None:
    tree = Tree(PROBLEM)
    run = run_of(tree, arithmetic_parts(0.0), Budget(trajectories=50))
    async with operations(tree) as calls:
        await run.begin(calls, None)
        rollouts = Rollouts(run, calls)
        assert rollouts.begin_more() is None
        assert rollouts.in_flight.losses(tree.root.id) == 1  # the root is expanded by one rollout alone
        await calls.apply_next()
        assert rollouts.begin_more() is None
        under_way = rollouts.in_flight.losses(tree.root.id)
        assert under_way == sum(rollouts.in_flight.losses(child) for child in tree.root.children) >= 1
        rollouts.give_up_all()
        assert not any(rollouts.in_flight.losses(node.id) for node in tree.nodes)
    check_invariants(tree)


async def test_virtual_loss_is_gone_at_the_end_of_a_search() -> None:
    tree = Tree(PROBLEM)
    run = run_of(tree, arithmetic_parts(), Budget(trajectories=10))
    async with operations(tree) as calls:
        await run.begin(calls, None)
        rollouts = Rollouts(run, calls)
        while rollouts.begin_more() is None:
            await calls.apply_next()
        assert not any(rollouts.in_flight.losses(node.id) for node in tree.nodes)


async def test_rollouts_below_a_node_whose_state_is_lost_are_given_up() -> None:
    """A loaded tree, and a runner that gives another result than before: the first expansion below finds out."""
    script = {
        (): [step("a")],
        ("\na\n",): [step("b"), step("c"), step("d")],
        ("\na\n", "\nb\n"): [last_step("e")],
        ("\na\n", "\nc\n"): [last_step("e")],
        ("\na\n", "\nd\n"): [last_step("e")],
    }
    printing = ScriptedRunner({"a": Execution(outcome=ExecutionOutcome.OK, stdout="1\n")})
    tree = Tree(PROBLEM)

    class Enough(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, NodeAdded) and event.depth == 2:
            raise Enough

    config = SearchConfig(candidates=3, parallel_rollouts=3)
    with pytest.raises(Enough):
        await think(
            scripted(ScriptedPolicy(script), printing),
            config,
            Budget(trajectories=9),
            tree=tree,
            on_event=stop,
        )
    loaded = load(save(tree))
    silent = scripted(ScriptedPolicy(script), ScriptedRunner())
    result = await think(silent, config, Budget(trajectories=9), tree=loaded)
    check_invariants(result.tree)
    assert result.tree.nodes[1].outcome is NodeOutcome.CODE_FAILED
    assert (result.tree.trajectories, result.stop_reason) == (1, StopReason.EXHAUSTED)
