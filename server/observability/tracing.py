"""Tracing: knows of each task which trace it works for, tells engines, and lets a recorder have the spans.

Without a recorder spans cost nothing and the context of the client goes on to the engines as it came. The recorder is
OpenTelemetry's (`server.observability.telemetry`), if anyone's; this module knows nothing of it.
"""

import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from server.http.asgi import Application, Message, Receive, Scope, Send, headers_of, is_request, route_of, status_of
from server.http.request_ids import HEADER, current_request_id
from server.observability.trace_context import TraceContext, new_trace_context, read_trace_context

UNTRACED = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""Asked every few seconds, and the same every time."""

Attribute = str | bool | int | float


class RecordedSpan(Protocol):
    """A stretch of work that a recorder takes down. None of this blocks or raises."""

    @property
    def context(self) -> TraceContext:
        """Its place in the trace."""
        ...

    def rename(self, name: str) -> None:
        """Its name is known only now."""
        ...

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """What is known of it by now."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """It is over; with an error, if one ended it."""
        ...


class Recorder(Protocol):
    """Takes spans."""

    def start(
        self, name: str, *, parent: TraceContext | None, attributes: Mapping[str, Attribute], is_request: bool = False
    ) -> RecordedSpan:
        """Never blocks and never raises. Without a parent a new trace begins."""
        ...


class Span:
    """The block that is being recorded, if it is, for whoever is in it."""

    def __init__(self, recorded: RecordedSpan | None) -> None:
        self._recorded = recorded

    def set(self, **attributes: Attribute) -> None:
        """What is known of it by now."""
        if self._recorded is not None:
            self._recorded.note(_prefixed(attributes))


@dataclass(frozen=True, slots=True)
class _Trace:
    context: TraceContext
    recorder: Recorder | None


_NO_SPAN = Span(None)
_current: ContextVar[_Trace | None] = ContextVar("current_trace", default=None)


@contextmanager
def span(name: str, **attributes: Attribute) -> Generator[Span]:
    """Record the block as part of the request that this task works for; an exception that ends it is noted, and passes.

    Attributes get the prefix `rstar.`.
    """
    trace = _current.get()
    if trace is None or trace.recorder is None:
        yield _NO_SPAN
        return
    recorded = trace.recorder.start(name, parent=trace.context, attributes=_prefixed(attributes))
    token = _current.set(_Trace(recorded.context, trace.recorder))
    try:
        yield Span(recorded)
    except BaseException as error:
        recorded.end(error)
        raise
    else:
        recorded.end()
    finally:
        _current.reset(token)


def is_recorded() -> bool:
    """Whether spans of this task go anywhere."""
    trace = _current.get()
    return trace is not None and trace.recorder is not None


def current_trace_id() -> str | None:
    """Of the request that this task works for."""
    trace = _current.get()
    return None if trace is None else trace.context.trace_id


def outgoing_request_id() -> str | None:
    """For a request to another server, made on behalf of the request that this task works for."""
    request_id = current_request_id.get()
    # One search asks an engine many times at once, and an engine may take its requests' ids to be distinct.
    return None if request_id is None else f"{request_id}-{secrets.token_hex(4)}"


def outgoing_trace() -> dict[str, str]:
    """Headers that put what is made of such a request below this task's span."""
    trace = _current.get()
    return {} if trace is None else trace.context.headers


def outgoing_headers() -> dict[str, str]:
    """Both, to be sent along."""
    request_id = outgoing_request_id()
    return outgoing_trace() if request_id is None else {**outgoing_trace(), HEADER: request_id}


class Traces:
    """An ASGI layer: takes up the client's trace, or begins one, and records each request as a span."""

    def __init__(self, app: Application, recorder: Recorder | None = None) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope):
            await self._app(scope, receive, send)
            return
        parent = read_trace_context(headers_of(scope))
        # Neither branch takes the context back at the end, for the same reason as `server.http.request_ids`.
        if self._recorder is None or scope["path"] in UNTRACED:
            _current.set(_Trace(parent or new_trace_context(), None))
            await self._app(scope, receive, send)
        else:
            await self._record(self._recorder, parent, (scope, receive, send))

    async def _record(
        self, recorder: Recorder, parent: TraceContext | None, connection: tuple[Scope, Receive, Send]
    ) -> None:
        scope, receive, send = connection
        method = str(scope["method"])
        attributes: dict[str, Attribute] = {
            "http.request.method": method,
            "url.path": str(scope["path"]),
            "rstar.request_id": current_request_id.get() or "",
        }
        recorded = recorder.start(method, parent=parent, attributes=attributes, is_request=True)
        _current.set(_Trace(recorded.context, recorder))

        async def send_noting_status(message: Message) -> None:
            if (status := status_of(message)) is not None:
                recorded.note({"http.response.status_code": status})
            await send(message)

        error: BaseException | None = None
        try:
            await self._app(scope, receive, send_noting_status)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if (route := route_of(scope)) is not None:
                recorded.rename(f"{method} {route}")
                recorded.note({"http.route": route})
            recorded.end(error)


def _prefixed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"rstar.{name}": value for name, value in attributes.items()}
