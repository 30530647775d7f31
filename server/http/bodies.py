"""Bodies: reads a request's body within limits, and closes the connection where one is left unread. Knows no JSON."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.http.layers import Layer, on_response
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind, over_limit

CLIENT_LEFT = 499
"""Status of a response that nobody reads; the logs of proxies use this number."""


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


class UnreadBodies(Layer):
    """Closes the connection of a request that is answered before its body has come to its end.

    Else the server would go on reading for as long as the client goes on sending. Requests without a body, and those
    whose body was read, keep their connection.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        is_read = "transfer-encoding" not in headers and not headers.get("content-length", "").strip(" 0")

        async def receive_watched() -> Message:
            nonlocal is_read
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                is_read = True
            return message

        def close_unread(response: Message) -> None:
            if not is_read:
                MutableHeaders(scope=response)["connection"] = "close"

        await self.app(scope, receive_watched, on_response(send, close_unread))
