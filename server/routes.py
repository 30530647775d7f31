"""Routes: the HTTP endpoints. A handler checks, asks the solver, watches, and renders; it never runs a search."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from server.event_stream import stream_frames
from server.metrics import CONTENT_TYPE
from server.openapi_document import CANCEL_RESPONSES, METRICS_RESPONSES, READYZ_RESPONSES, SOLVE_RESPONSES
from server.orders import order_for
from server.problem_json import problem_details, problem_response, request_id_of
from server.refusals import Kind, Refusal, over_limit
from server.running import Watch
from server.schemas import Cancellation, Health, ProblemDetails, Readiness, SolveRequest, SolveResponse, Version
from server.settings import Settings
from server.solver import DRAINING, Solver
from server.version import running_version
from server.wire import json_bytes

CLIENT_LEFT = 499
"""Nobody reads it; the log of a proxy knows this number."""


def make_router(solver: Solver, settings: Settings) -> APIRouter:
    """The endpoints over one solver."""
    router = APIRouter()

    async def solve(request: Request, order: SolveRequest) -> Response:
        """Search for the answer to a problem. With `stream` the response is text/event-stream."""
        search_id = f"{request_id_of(request)}-{uuid4().hex[:8]}"
        running = solver.start(order_for(order, settings), search_id=search_id, client=_client_of(request))
        if order.stream:
            return _EventStream(running.watch(events=True), request, heartbeat_s=settings.heartbeat_s)
        return await _answer(running.watch(), request)

    async def cancel(request: Request, search_id: Annotated[str, Path(min_length=1, max_length=256)]) -> Cancellation:
        """End a search with its best answer so far, which whoever waits for it gets. May be repeated.

        The id is that of the search (event `search_started`), or the `X-Request-Id` of the request that began it.
        """
        return Cancellation(id=search_id, state=solver.cancel(search_id, client=_client_of(request)))

    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    async def readyz() -> Response:
        """Whether a problem would be accepted, and what each part says."""
        parts = {str(part): state for part, state in solver.states.items()}
        if solver.is_draining:
            parts["server"] = DRAINING
        readiness = Readiness(ready=solver.is_ready, parts=parts, sandbox_level=solver.sandbox_level)
        return Response(
            json_bytes(readiness.model_dump()),
            status_code=200 if readiness.ready else 503,
            media_type="application/json",
        )

    async def metrics() -> Response:
        """Everything that is counted and timed, in Prometheus's text format."""
        return Response(solver.metrics.page(), media_type=CONTENT_TYPE)

    async def version() -> Version:
        """What is running."""
        return Version(version=running_version(), models=solver.models)

    router.add_api_route(
        "/solve",
        solve,
        methods=["POST"],
        response_model=None,
        responses=SOLVE_RESPONSES,
        route_class_override=_bounded_route(settings.max_body_bytes),
    )
    router.add_api_route(
        "/solve/{search_id}/cancel", cancel, methods=["POST"], response_model=Cancellation, responses=CANCEL_RESPONSES
    )
    router.add_api_route("/healthz", healthz, methods=["GET"])
    router.add_api_route("/health", healthz, methods=["GET"], include_in_schema=False)
    router.add_api_route("/metrics", metrics, methods=["GET"], response_model=None, responses=METRICS_RESPONSES)
    router.add_api_route("/readyz", readyz, methods=["GET"], responses=READYZ_RESPONSES, response_model=Readiness)
    router.add_api_route("/version", version, methods=["GET"])
    return router


async def _answer(watch: Watch, request: Request) -> Response:
    """Wait for the end of the search, or for the client to leave."""
    try:
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(watch.ending())
            leaving = group.create_task(_client_leaves(request))
            await asyncio.wait({ending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, leaving):
                task.cancel()
        if ending.cancelled():
            return Response(status_code=CLIENT_LEFT)
    finally:
        watch.leave()
    outcome = ending.result()
    if isinstance(outcome, Refusal):
        return problem_response(outcome, request)
    # A tree can be megabytes of text.
    body = await asyncio.to_thread(_body, outcome) if outcome.tree else _body(outcome)
    return Response(body, media_type="application/json")


def _body(response: SolveResponse) -> bytes:
    return json_bytes(response.payload())


def _client_of(request: Request) -> str:
    """Whose request it is, as the layer that checks API keys found out."""
    return str(getattr(request.state, "client", ""))


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _EventStream(StreamingResponse):
    """The search as an event stream; the watcher leaves however the response ends."""

    def __init__(self, watch: Watch, request: Request, *, heartbeat_s: float) -> None:
        def describe(refusal: Refusal) -> ProblemDetails:
            return problem_details(refusal, request_id=request_id_of(request), instance=request.url.path)

        super().__init__(
            stream_frames(watch, describe=describe, heartbeat_s=heartbeat_s),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache, no-store", "x-accel-buffering": "no"},
        )
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A generator that is cancelled while it waits for the reader is not closed: leave here, not there.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watch.leave()


def _bounded_route(max_body_bytes: int) -> type[APIRoute]:
    """A route that looks at the body's type and size before anything reads it."""

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_bounded(request: Request) -> Response:
                try:
                    body = await _read_body(request, max_bytes=max_body_bytes)
                except ClientDisconnect:
                    return Response(status_code=CLIENT_LEFT)
                return await handle(_with_body(request, body))

            return handle_bounded

    return BoundedRoute


async def _read_body(request: Request, *, max_bytes: int) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"expected content-type application/json, got {media_type!r}")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(int(declared), max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(len(body), max_bytes)
    if not body:
        raise Refusal(Kind.MALFORMED_BODY, "a JSON object is required, got an empty body")
    return bytes(body)


def _too_large(size: int, max_bytes: int) -> Refusal:
    error = over_limit("", size, limit=max_bytes, unit=" bytes")
    return Refusal(Kind.BODY_TOO_LARGE, error.detail, errors=(error,))


def _with_body(request: Request, body: bytes) -> Request:
    """The same request with its body read already; after it come the client's own messages."""
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await request.receive()

    return Request(request.scope, receive)
