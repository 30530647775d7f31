"""Stop: a search that is asked to end gives its best answer so far, and leaves no call behind."""

import asyncio
from collections.abc import Sequence

import pytest

from search import Budget, OnLine, Parts, SearchConfig, SearchResult, Stop, StopReason, Strategy, dump_line
from search import search as run_search
from search.protocols import Candidate, Path
from search.replay import read_record, replay_record
from search.testing.fakes import arithmetic_parts
from search.testing.invariants import check_invariants
from tests.search.searches import PROBLEM, StallingPolicy

LONG = Budget(trajectories=1000, seconds=1000.0)


async def think(
    parts: Parts, stop: Stop, *, config: SearchConfig, budget: Budget = LONG, record: OnLine | None = None
) -> SearchResult:
    now = asyncio.get_running_loop().time
    return await run_search(
        PROBLEM, parts=parts, config=config, budget=budget, seed=5, now=now, stop=stop, record=record
    )


@pytest.mark.parametrize(
    ("strategy", "calls"),
    [(Strategy.MCTS, 12), (Strategy.MAJORITY, 60), (Strategy.STEP_BEAM, 30), (Strategy.GREEDY, 0)],
)
async def test_a_search_that_is_stopped_gives_its_best_answer_so_far(strategy: Strategy, calls: int) -> None:
    policy, stop = StallingPolicy(calls), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    config = SearchConfig(strategy=strategy, candidates=4, parallel_rollouts=3)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        searching = group.create_task(think(parts, stop, config=config))
        await policy.stalled.wait()
        stop.ask()
        stop.ask()
        result = await searching
    assert result.stop_reason is StopReason.CANCELLED
    assert (result.answer is not None) == (result.tree.trajectories > 0)
    assert policy.aborted == -policy.calls >= 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    check_invariants(result.tree)


async def test_one_asked_before_it_begins_does_next_to_nothing() -> None:
    policy, stop = StallingPolicy(0), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    stop.ask()
    result = await think(parts, stop, config=SearchConfig())
    assert (result.stop_reason, result.answer, result.tree.trajectories) == (StopReason.CANCELLED, None, 0)
    assert policy.aborted == -policy.calls


async def test_asking_after_the_end_changes_nothing() -> None:
    stop = Stop()
    result = await think(arithmetic_parts(), stop, config=SearchConfig(), budget=Budget(trajectories=4))
    stop.ask()
    assert result.stop_reason is StopReason.BUDGET
    assert stop.is_asked


async def test_asking_at_the_deadline_is_no_failure() -> None:
    """The deadline has run out, and calls are being cancelled, when somebody asks."""
    stop = Stop()

    class Asking:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            try:
                await asyncio.Event().wait()
            finally:
                stop.ask()
            raise AssertionError

    given = arithmetic_parts()
    parts = Parts(policy=Asking(), runner=given.runner, equality=given.equality, scorer=given.scorer)
    result = await think(parts, stop, config=SearchConfig(), budget=Budget(seconds=0.01))
    assert result.stop_reason is StopReason.CANCELLED


async def test_a_stopped_search_is_replayed_to_the_same_end() -> None:
    lines: list[str] = []
    policy, stop = StallingPolicy(9), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    config = SearchConfig(candidates=4, parallel_rollouts=3)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        searching = group.create_task(
            think(parts, stop, config=config, record=lambda line: lines.append(dump_line(line)))
        )
        await policy.stalled.wait()
        stop.ask()
        result = await searching
    replayed = await replay_record(read_record(lines))
    assert replayed.result is not None
    assert replayed.result.stop_reason is StopReason.CANCELLED
    assert replayed.result.answers == result.answers
    assert replayed.tree == result.tree
