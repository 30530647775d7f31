"""Event stream: one search told as server-sent events, from the first event to the answer.

    search_started, then node, trajectory and answer_changed as they come, then done or error

`done` carries the response that the client would have got without streaming, `error` the problem details. A client
too slow for its events misses some: see `server.solving.progress`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

from search import AnswerChanged, Event, NodeAdded, SearchStarted, TrajectoryFinished
from server.http.answer_body import answer_body
from server.http.schemas import ProblemDetails
from server.http.wire import HEARTBEAT, ServerEvent, frame, frame_of
from server.solving.refusals import Refusal
from server.solving.running import RunningSearch, Watch


async def stream_frames(
    watch: Watch, *, describe: Callable[[Refusal], ProblemDetails], heartbeat_s: float
) -> AsyncGenerator[bytes]:
    """The frames to send to one watcher of events, with a heartbeat whenever there was nothing for that long.

    A first heartbeat goes out at once: proxies and clients want a byte before they believe in a stream.
    """
    progress = watch.progress
    assert progress is not None
    yield HEARTBEAT
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                event = await progress.next()
        except TimeoutError:
            yield HEARTBEAT
            continue
        if event is None:
            break
        # An expansion tells all its nodes at once: one chunk for them, not one each.
        yield b"".join(frame(_server_event(one, watch.search)) for one in (event, *progress.take_rest()))
    ending = await watch.ending()
    if isinstance(ending, Refusal):
        yield frame(ServerEvent("error", describe(ending).model_dump(exclude_none=True)))
    else:
        yield frame_of("done", await answer_body(ending))


def _server_event(event: Event, running: RunningSearch) -> ServerEvent:
    match event:
        case SearchStarted():
            return ServerEvent(
                "search_started",
                {
                    "id": running.id,
                    "strategy": event.strategy,
                    "trajectories": running.order.trajectories,
                    "cached_trajectories": event.cached_trajectories,
                },
            )
        case NodeAdded():
            return ServerEvent(
                "node",
                {
                    "node_id": event.node_id,
                    "parent": event.parent,
                    "depth": event.depth,
                    "outcome": event.outcome,
                    "score": event.score,
                    "text": event.text,
                },
            )
        case TrajectoryFinished():
            return ServerEvent(
                "trajectory",
                {"index": event.index, "node_id": event.node_id, "answer": event.answer, "score": event.score},
            )
        case AnswerChanged():
            return ServerEvent("answer_changed", {"answer": event.answer, "confidence": event.confidence})
        case _:
            assert_never(event)
