"""Searches: a slow watcher misses events, costs no memory, and never holds up the search."""

import asyncio

import pytest

from search import AnswerChanged, Event, NodeAdded, NodeId, NodeOutcome, SearchStarted, Strategy, TrajectoryFinished
from search.tree import ROOT
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import CAPACITY, RunningSearch, SearchEnding, Searches, Watcher
from tests.server.serving import a_request

LONG_S = 60.0
"""Never waited for."""
STARTED = SearchStarted(problem="1", strategy=Strategy.MCTS, cached_trajectories=0)


def _news(answer: str) -> AnswerChanged:
    return AnswerChanged(answer=answer, confidence=0.5)


def _node(number: int) -> NodeAdded:
    return NodeAdded(node_id=NodeId(number), parent=ROOT, depth=1, outcome=NodeOutcome.OPEN, score=None, text="")


def _trajectory(index: int) -> TrajectoryFinished:
    return TrajectoryFinished(index=index, node_id=NodeId(1), answer="1", score=None)


def _running() -> RunningSearch:
    return RunningSearch("s1", a_request(), "ann", arrived_s=0.0)


def _watcher(*, capacity: int = CAPACITY) -> Watcher:
    return Watcher(_running(), wants_events=True, capacity=capacity)


async def _rest(watcher: Watcher) -> list[Event]:
    watcher.close()
    return await watcher.events()


async def test_events_come_out_in_order_and_then_none() -> None:
    watcher = _watcher()
    watcher.put(_node(1))
    watcher.put(_trajectory(0))
    assert await _rest(watcher) == [_node(1), _trajectory(0)]
    assert await watcher.events() == []


async def test_a_reader_waits_for_what_is_not_there_yet() -> None:
    watcher = _watcher()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(watcher.events())
        await asyncio.sleep(0)
        assert not reading.done()
        watcher.put(_node(1))
        assert await reading == [_node(1)]
        reading = group.create_task(watcher.events())
        await asyncio.sleep(0)
        watcher.close()
        assert await reading == []


async def test_when_full_the_oldest_node_gives_way() -> None:
    watcher = _watcher(capacity=3)
    for event in (_trajectory(0), _node(1), _node(2), _trajectory(1), _trajectory(2)):
        watcher.put(event)
    assert watcher.dropped == 2
    assert await _rest(watcher) == [_trajectory(0), _trajectory(1), _trajectory(2)]


async def test_when_full_of_other_events_the_oldest_gives_way() -> None:
    watcher = _watcher(capacity=2)
    for event in (_trajectory(0), _trajectory(1), _news("3")):
        watcher.put(event)
    assert await _rest(watcher) == [_trajectory(1), _news("3")]


@pytest.mark.parametrize("capacity", [2, 3, 5])
async def test_who_never_reads_still_gets_start_and_last_answer(capacity: int) -> None:
    watcher = _watcher(capacity=capacity)
    events: list[Event] = [STARTED, *(_news(str(k)) for k in range(6)), *(_trajectory(k) for k in range(6)), _node(1)]
    for event in events:
        watcher.put(event)
    assert watcher.dropped == len(events) - capacity
    rest = await _rest(watcher)
    assert rest[:2] == [STARTED, _news("5")]
    assert rest[2:] == [_trajectory(k) for k in range(6)][6 - (capacity - 2) :]


async def test_an_answer_gives_way_to_a_later_answer_only() -> None:
    watcher = _watcher(capacity=2)
    for event in (STARTED, _news("1"), _trajectory(0), _news("2")):
        watcher.put(event)
    assert await _rest(watcher) == [STARTED, _news("2")]


async def test_a_watcher_that_wants_no_events_keeps_none() -> None:
    watcher = Watcher(_running(), wants_events=False)
    watcher.put(STARTED)
    assert await _rest(watcher) == []


async def test_a_search_cut_off_by_a_stop_gets_retry_after() -> None:
    async def search() -> SearchEnding:
        await asyncio.sleep(LONG_S)
        raise AssertionError

    running, searches = _running(), Searches(bound_s=LONG_S)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(search())
        searches.add(task, running)
        task.add_done_callback(searches.finish)
        task.cancel()
    refusal = await running.ending()
    assert isinstance(refusal, Refusal)
    assert refusal.kind is RefusalKind.STOPPING
    assert refusal.retry_after_s
