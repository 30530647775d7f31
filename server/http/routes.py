"""Routes: the HTTP endpoints. A handler checks, asks the solver, watches, and renders; it never runs a search."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

from server.http.answer_body import answer_body
from server.http.asgi import Message, Receive, Scope, Send, client_of, headers_of, request_id_of
from server.http.event_stream import stream_frames
from server.http.openapi_document import CANCEL_RESPONSES, METRICS_RESPONSES, READYZ_RESPONSES, SOLVE_RESPONSES
from server.http.problem_json import problem_details, problem_response
from server.http.request_body import BodyLimits, ClientLeft, read_body
from server.http.schemas import Cancellation, Health, ProblemDetails, Readiness, SolveRequest, Version
from server.http.wire import json_bytes
from server.observability.metrics import CONTENT_TYPE
from server.observability.version import running_version
from server.settings.settings import Settings
from server.solving.orders import order_for
from server.solving.refusals import Refusal
from server.solving.running import Watch, new_search_id
from server.solving.solver import DRAINING, Solver

CLIENT_LEFT = 499
"""Nobody reads it; the log of a proxy knows this number."""


def make_router(solver: Solver, settings: Settings) -> APIRouter:
    """The endpoints over one solver."""
    router = APIRouter()

    async def solve(request: Request, order: SolveRequest) -> Response:
        """Search for the answer to a problem. With `stream` the response is text/event-stream."""
        search_id, client = new_search_id(request_id_of(request.scope)), client_of(request.scope)
        running = solver.start(order_for(order, settings), search_id=search_id, client=client)
        if order.stream:
            return _EventStream(running.watch(events=True), request, heartbeat_s=settings.heartbeat_s)
        return await _answer(running.watch(), request)

    async def cancel(request: Request, search_id: Annotated[str, Path(min_length=1, max_length=256)]) -> Cancellation:
        """End a search with its best answer so far, which whoever waits for it gets. May be repeated.

        The id is that of the search (event `search_started`), or, on a server with API keys, the `X-Request-Id` of the
        request that began it.
        """
        # Without keys a client is only an address, which many may share and one may change.
        client = None if settings.api_keys is None else client_of(request.scope)
        return Cancellation(id=search_id, state=solver.cancel(search_id, client=client))

    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    async def readyz() -> Response:
        """Whether every part works and the server is not about to stop, and what each part says."""
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
        route_class_override=_bounded_route(
            BodyLimits(size_bytes=settings.max_body_bytes, time_s=settings.body_timeout_s)
        ),
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
    return Response(await answer_body(outcome), media_type="application/json")


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _EventStream(StreamingResponse):
    """The search as an event stream; the watcher leaves however the response ends."""

    def __init__(self, watch: Watch, request: Request, *, heartbeat_s: float) -> None:
        def describe(refusal: Refusal) -> ProblemDetails:
            return problem_details(refusal, request_id=request_id_of(request.scope), instance=request.url.path)

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


def _bounded_route(limits: BodyLimits) -> type[APIRoute]:
    """A route that reads the body within limits before anything else does."""

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_bounded(request: Request) -> Response:
                try:
                    body = await read_body(headers_of(request.scope), request.receive, limits)
                except ClientLeft:
                    return Response(status_code=CLIENT_LEFT)
                return await handle(_with_body(request, body))

            return handle_bounded

    return BoundedRoute


def _with_body(request: Request, body: bytes) -> Request:
    """The same request with its body read already; after it come the client's own messages."""
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await request.receive()

    return Request(request.scope, receive)
