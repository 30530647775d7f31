"""Requests: reads the body of a request within limits, makes the search request with the operator's defaults, and
watches its search for as long as the client stays.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, assert_never

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message

from search import Budget, SearchConfig
from server.engines.protocols import Sampling
from server.http.schemas import Effort, SolveRequest
from server.settings.settings import REQUEST_LIMITS, Settings
from server.solving.refusals import FieldError, Refusal, RefusalKind, invalid, over_limit
from server.solving.searches import SearchRequest, Watcher

Value = TypeVar("Value")

CLIENT_LEFT = 499
"""Status for a client that has left before its response; the logs of proxies use this number."""


def search_request(body: SolveRequest, settings: Settings, *, endpoint: str) -> SearchRequest:
    """What the body asks for. Raises a `Refusal` that names every limit it breaks."""
    if errors := _broken_limits(body, settings):
        raise invalid(*errors)
    options = body.search
    return SearchRequest(
        problem=body.problem.strip(),
        config=SearchConfig(
            strategy=options.strategy,
            candidates=_given(options.candidates, settings.candidates),
            max_depth=_given(options.depth, settings.depth),
            exploration=_given(options.exploration, settings.exploration),
            tree_policy=options.tree_policy,
            parallel_rollouts=_given(options.parallel_rollouts, settings.parallel_rollouts),
            beam_width=_given(options.beam_width, settings.beam_width),
            selection=options.selection,
            stop_when_decided=_given(options.stop_when_decided, settings.stop_when_decided),
            stop_at_confidence=options.stop_at_confidence,
        ),
        budget=Budget(trajectories=_trajectories(body, settings), tokens=_given(body.max_tokens, settings.tokens)),
        timeout_s=_given(body.timeout_s, settings.timeout_s),
        sampling=Sampling(
            temperature=_given(body.temperature, settings.temperature),
            top_p=_given(body.top_p, settings.top_p),
            max_step_tokens=settings.max_step_tokens,
        ),
        seed=body.seed,
        endpoint=endpoint,
        cache=body.cache,
        returns_tree=body.return_tree,
    )


def _trajectories(body: SolveRequest, settings: Settings) -> int:
    if body.effort is None:
        return _given(body.trajectories, settings.trajectories)
    if body.trajectories is not None:
        detail = "stands for a number of trajectories: give effort or trajectories, not both"
        raise invalid(FieldError(field="effort", detail=detail, value=body.effort))
    match body.effort:
        case Effort.LOW:
            trajectories = settings.low_effort_trajectories
        case Effort.MEDIUM:
            trajectories = settings.medium_effort_trajectories
        case Effort.HIGH:
            trajectories = settings.high_effort_trajectories
        case _:
            assert_never(body.effort)
    return min(trajectories, settings.max_trajectories)


def _broken_limits(body: SolveRequest, settings: Settings) -> list[FieldError]:
    """Only what the body names is checked: the operator's defaults are within the limits."""
    errors = [
        over_limit(limit.field, asked, limit=limit.most(settings))
        for limit in REQUEST_LIMITS
        if (asked := limit.asked(body)) is not None and asked > limit.most(settings)
    ]
    length = len(body.problem.strip())
    if length > settings.max_problem_chars:
        errors.append(over_limit("problem", length, limit=settings.max_problem_chars, unit=" characters"))
    return errors


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body, which is not empty. Raises a `Refusal`, or `ClientDisconnect` if the client leaves before."""
    timeout_s, most = settings.body_timeout_s, settings.max_body_bytes
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        detail = f"expected content-type application/json, got {media_type!r}"
        raise Refusal(RefusalKind.UNSUPPORTED_MEDIA_TYPE, detail)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _check_size(int(declared), most)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                body += part
                _check_size(len(body), most)
    except TimeoutError:
        detail = f"the body was not complete {timeout_s:g} s after the head of the request"
        raise Refusal(RefusalKind.BODY_TIMEOUT, detail) from None
    if not body:
        raise Refusal(RefusalKind.MALFORMED_BODY, "a JSON object is required, got an empty body")
    return bytes(body)


def _check_size(size: int, most: int) -> None:
    if size > most:
        error = over_limit("", size, limit=most, unit=" bytes")
        raise Refusal(RefusalKind.BODY_TOO_LARGE, error.detail, errors=(error,))


def bounded_route(settings: Settings) -> type[APIRoute]:
    """A route that reads the body within limits before the framework does."""

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_bounded(request: Request) -> Response:
                try:
                    body = await read_body(request, settings)
                except ClientDisconnect:
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


async def watched_response(body: Coroutine[Any, Any, bytes | Refusal], watcher: Watcher, request: Request) -> Response:
    """The response with this JSON as its body; for a `Refusal` raises it.

    The watcher leaves when the body is made, or when the client leaves before.
    """
    try:
        made = await _unless_client_leaves(body, request)
    finally:
        watcher.leave()
    if made is None:
        return Response(status_code=CLIENT_LEFT)
    if isinstance(made, Refusal):
        raise made
    return Response(made, media_type="application/json")


async def _unless_client_leaves(work: Coroutine[Any, Any, Value], request: Request) -> Value | None:
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        leaving = group.create_task(_client_leaves(request))
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (working, leaving):
            task.cancel()
    return None if working.cancelled() else working.result()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
