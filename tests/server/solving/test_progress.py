"""Progress: a slow client costs events, never memory, and never the search's time."""

import asyncio

import pytest

from search import (
    ROOT,
    AnswerChanged,
    Event,
    NodeAdded,
    NodeId,
    NodeOutcome,
    SearchStarted,
    Strategy,
    TrajectoryFinished,
)
from server.solving.progress import Progress

STARTED = SearchStarted(problem="1", strategy=Strategy.MCTS, cached_trajectories=0)


def _news(answer: str) -> AnswerChanged:
    return AnswerChanged(answer=answer, confidence=0.5)


def _node(number: int) -> NodeAdded:
    return NodeAdded(node_id=NodeId(number), parent=ROOT, depth=1, outcome=NodeOutcome.OPEN, score=None, text="")


def _trajectory(index: int) -> TrajectoryFinished:
    return TrajectoryFinished(index=index, node_id=NodeId(1), answer="1", score=None)


async def _rest(progress: Progress) -> list[object]:
    progress.close()
    events: list[object] = []
    while (event := await progress.next()) is not None:
        events.append(event)
    return events


async def test_events_come_out_in_order_and_then_none_for_good() -> None:
    progress = Progress()
    progress.put(_node(1))
    progress.put(_trajectory(0))
    assert await _rest(progress) == [_node(1), _trajectory(0)]
    assert await progress.next() is None


async def test_a_reader_waits_for_what_is_not_there_yet() -> None:
    progress = Progress()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(progress.next())
        await asyncio.sleep(0)
        assert not reading.done()
        progress.put(_node(1))
        assert await reading == _node(1)
        reading = group.create_task(progress.next())
        await asyncio.sleep(0)
        progress.close()
        assert await reading is None


async def test_when_full_the_oldest_node_gives_way() -> None:
    progress = Progress(capacity=3)
    for event in (_trajectory(0), _node(1), _node(2), _trajectory(1), _trajectory(2)):
        progress.put(event)
    assert progress.dropped == 2
    assert await _rest(progress) == [_trajectory(0), _trajectory(1), _trajectory(2)]


async def test_when_full_of_other_events_the_oldest_gives_way() -> None:
    progress = Progress(capacity=2)
    for event in (_trajectory(0), _trajectory(1), _news("3")):
        progress.put(event)
    assert await _rest(progress) == [_trajectory(1), _news("3")]


@pytest.mark.parametrize("capacity", [2, 3, 5])
async def test_a_client_that_never_reads_still_gets_the_start_and_the_last_news(capacity: int) -> None:
    progress = Progress(capacity=capacity)
    told: list[Event] = [STARTED, *(_news(str(k)) for k in range(6)), *(_trajectory(k) for k in range(6)), _node(1)]
    for event in told:
        progress.put(event)
    assert progress.dropped == len(told) - capacity
    rest = await _rest(progress)
    assert rest[:2] == [STARTED, _news("5")]
    assert rest[2:] == [_trajectory(k) for k in range(6)][6 - (capacity - 2) :]


async def test_news_give_way_to_later_news_only() -> None:
    progress = Progress(capacity=2)
    for event in (STARTED, _news("1"), _trajectory(0), _news("2")):
        progress.put(event)
    assert await _rest(progress) == [STARTED, _news("2")]
