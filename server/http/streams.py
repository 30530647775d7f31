"""Streams: one search as server-sent events, from the first event to the result. `Frames` says how they are written.

`POST /solve` sends

    search_started, then node, trajectory and answer_changed as they come, then done or error

`done` carries the response that the client would have got without streaming, `error` the problem details. A client
too slow for its events misses some: see `server.solving.searches.Watcher`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, assert_never, cast

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from search import AnswerChanged, Event, NodeAdded, SearchStarted, TrajectoryFinished
from server.http.errors import internal_error
from server.http.problems import problem_details
from server.http.responses import json_bytes, response_body
from server.solving.refusals import Refusal
from server.solving.searches import FinishedSearch, RunningSearch, Watcher

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of event streams skips; keeps proxies from closing a silent connection."""


class ServerEvent(NamedTuple):
    """One server-sent event."""

    name: str
    payload: dict[str, object]


class Frames(Protocol):
    """How one search is written to a stream. Every method returns whole frames."""

    def opening(self) -> bytes:
        """What goes out at once: proxies and clients take a stream for open only after its first byte."""
        ...

    def events(self, events: Sequence[Event]) -> bytes:
        """Some events, oldest first."""
        ...

    async def result(self, finished: FinishedSearch) -> bytes:
        """The end of a search with a result."""
        ...

    def error(self, refusal: Refusal) -> bytes:
        """The end of a search without one."""
        ...


class EventStream(StreamingResponse):
    """The search as an event stream. The watcher leaves however the response ends."""

    def __init__(self, watcher: Watcher, frames: Frames, *, heartbeat_s: float) -> None:
        super().__init__(
            stream_frames(watcher, frames, heartbeat_s=heartbeat_s),
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


async def stream_frames(watcher: Watcher, frames: Frames, *, heartbeat_s: float) -> AsyncGenerator[bytes]:
    """The frames for one watcher of events, with a heartbeat whenever there was nothing to send for that long."""
    yield frames.opening()
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
        yield frames.events(events)
    ending = await watcher.search.ending()
    if isinstance(ending, Refusal):
        yield frames.error(ending)
        return
    try:
        last = await frames.result(ending)
    except Exception:
        yield frames.error(internal_error())
        raise  # the server logs it
    yield last


class SolveFrames:
    """The named events of `POST /solve`."""

    def __init__(self, running: RunningSearch, request: Request) -> None:
        self._running = running
        self._request = request

    def opening(self) -> bytes:
        """See `Frames`."""
        return HEARTBEAT

    def events(self, events: Sequence[Event]) -> bytes:
        """See `Frames`."""
        return b"".join(_event_frame(event, self._running) for event in events)

    async def result(self, finished: FinishedSearch) -> bytes:
        """See `Frames`."""
        return frame("done", await response_body(finished))

    def error(self, refusal: Refusal) -> bytes:
        """See `Frames`."""
        return frame("error", json_bytes(problem_details(refusal, self._request).model_dump(exclude_none=True)))


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
