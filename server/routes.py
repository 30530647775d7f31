"""Routes: the HTTP endpoints. A handler checks, asks the solver, watches, and renders; it never runs a search."""

import asyncio
import importlib.metadata
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from server.event_stream import stream_frames
from server.openapi_document import READYZ_RESPONSES, SOLVE_RESPONSES
from server.orders import order_for
from server.problem_json import problem_details, problem_response, request_id_of
from server.refusals import Kind, Refusal, over_limit
from server.schemas import Health, ProblemDetails, Readiness, SolveRequest, Version
from server.settings import Settings
from server.solver import RunningSearch, Solver
from server.wire import json_bytes

DISTRIBUTION = "rstar-server"

CLIENT_LEFT = 499
"""Nobody reads it; the log of a proxy knows this number."""


def make_router(solver: Solver, settings: Settings) -> APIRouter:
    """The endpoints over one solver."""
    router = APIRouter()

    async def solve(request: Request, order: SolveRequest) -> Response:
        """Search for the answer to a problem. With `stream` the response is text/event-stream."""
        search_id = f"{request_id_of(request)}-{uuid4().hex[:8]}"
        running = solver.start(order_for(order, settings), search_id=search_id)
        if order.stream:
            return _EventStream(running, request)
        return await _watch(running, request)

    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    async def readyz() -> Response:
        """Whether a problem would be accepted, and what each part says."""
        readiness = Readiness(ready=solver.is_ready, parts={str(part): state for part, state in solver.states.items()})
        return Response(
            json_bytes(readiness.model_dump()),
            status_code=200 if readiness.ready else 503,
            media_type="application/json",
        )

    async def version() -> Version:
        """What is running."""
        return Version(version=_version(), models=solver.models)

    router.add_api_route(
        "/solve",
        solve,
        methods=["POST"],
        response_model=None,
        responses=SOLVE_RESPONSES,
        route_class_override=_bounded_route(settings.max_body_bytes),
    )
    router.add_api_route("/healthz", healthz, methods=["GET"])
    router.add_api_route("/readyz", readyz, methods=["GET"], responses=READYZ_RESPONSES, response_model=Readiness)
    router.add_api_route("/version", version, methods=["GET"])
    return router


async def _watch(running: RunningSearch, request: Request) -> Response:
    """Wait for the end of the search, or for the client to leave: then nobody needs the search any more."""
    try:
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(running.ending())
            leaving = group.create_task(_client_leaves(request))
            await asyncio.wait({ending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, leaving):
                task.cancel()
        if ending.cancelled():
            return Response(status_code=CLIENT_LEFT)
    finally:
        running.give_up()
    outcome = ending.result()
    if isinstance(outcome, Refusal):
        return problem_response(outcome, request)
    return Response(json_bytes(outcome.model_dump()), media_type="application/json")


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _EventStream(StreamingResponse):
    """The search as an event stream; it is given up however the response ends."""

    def __init__(self, running: RunningSearch, request: Request) -> None:
        def describe(refusal: Refusal) -> ProblemDetails:
            return problem_details(refusal, request_id=request_id_of(request), instance=request.url.path)

        super().__init__(
            stream_frames(running, describe=describe),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A generator that is cancelled while it waits for the reader is not closed: give up here, not there.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.give_up()


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


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
