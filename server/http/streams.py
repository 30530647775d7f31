"""Streams: one search as server-sent events, from the first event to the result.

    search_started, then node, trajectory and answer_changed as they come, then done or error

`done` carries the response that the client would have got without streaming, `error` the problem details. A client
too slow for its events misses some: see `server.solving.searches.Watcher`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import NamedTuple, assert_never, cast

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from search import AnswerChanged, Event, NodeAdded, SearchStarted, TrajectoryFinished
from server.http.problems import internal_error, problem_details
from server.http.responses import json_bytes, response_body
from server.solving.refusals import Refusal
from server.solving.searches import RunningSearch, Watcher

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of event streams skips; keeps proxies from closing a silent connection."""


class ServerEvent(NamedTuple):
    """One server-sent event."""

    name: str
    payload: dict[str, object]


class EventStream(StreamingResponse):
    """The search as an event stream. The watcher leaves however the response ends."""

    def __init__(self, watcher: Watcher, request: Request, *, heartbeat_s: float) -> None:
        super().__init__(
            stream_frames(watcher, request, heartbeat_s=heartbeat_s),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache, no-store", "x-accel-buffering": "no"},
        )
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        # A generator that is cancelled while it waits for its reader is not closed, so the watcher leaves here.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watcher.leave()


async def stream_frames(watcher: Watcher, request: Request, *, heartbeat_s: float) -> AsyncGenerator[bytes]:
    """The frames for one watcher of events, with a heartbeat whenever there was nothing to send for that long.

    A first heartbeat goes out at once: proxies and clients take the stream for open only after its first byte.
    """
    yield HEARTBEAT
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                events = await watcher.events()
        except TimeoutError:
            yield HEARTBEAT
            continue
        if not events:
            break
        # All that one expansion has added goes out in one chunk, not in one each.
        yield b"".join(_event_frame(event, watcher.search) for event in events)
    ending = await watcher.search.ending()
    if isinstance(ending, Refusal):
        yield _error_frame(ending, request)
        return
    try:
        body = await response_body(ending)
    except Exception:
        yield _error_frame(internal_error(), request)
        raise  # the server logs it
    yield frame("done", body)


def frame(name: str, line: bytes) -> bytes:
    """The event of that name as it goes out; its payload is one line of JSON."""
    return b"event: " + name.encode() + b"\ndata: " + line + b"\n\n"


def read_frames(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events in the lines of a stream of such frames; comments are skipped."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield ServerEvent(name, cast("dict[str, object]", json.loads(line.removeprefix("data: "))))


def _error_frame(refusal: Refusal, request: Request) -> bytes:
    return frame("error", json_bytes(problem_details(refusal, request).model_dump(exclude_none=True)))


def _event_frame(event: Event, running: RunningSearch) -> bytes:
    match event:
        case SearchStarted():
            name = "search_started"
            payload = {
                "id": running.id,
                "strategy": event.strategy,
                "trajectories": running.request.budget.trajectories,
                "cached_trajectories": event.cached_trajectories,
            }
        case NodeAdded():
            name = "node"
            payload = {
                "node_id": event.node_id,
                "parent": event.parent,
                "depth": event.depth,
                "outcome": event.outcome,
                "score": event.score,
                "text": event.text,
            }
        case TrajectoryFinished():
            name = "trajectory"
            payload = {"index": event.index, "node_id": event.node_id, "answer": event.answer, "score": event.score}
        case AnswerChanged():
            name = "answer_changed"
            payload = {
                "answer": event.answer,
                "confidence": event.confidence,
                "confidence_fitted": running.request.has_fitted_confidence,
            }
        case _:
            assert_never(event)
    return frame(name, json_bytes(payload))
