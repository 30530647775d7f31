"""Request ids: takes the client's `X-Request-Id` where it is well-formed, makes one elsewhere, and sends it back.

The outermost ASGI layer, so that every response and every log entry carries the id. Looks at nothing else of a request.
"""

import re
from uuid import uuid4

from server.http.asgi import (
    Application,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    headers_of,
    is_request,
    keep_request_id,
)
from server.observability.tracing import REQUEST_ID, current_request_id

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""What can stand in a log line or a URL without quoting."""


class RequestIds:
    """The layer; below it `server.http.asgi.request_id_of` tells the id."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope):
            await self._app(scope, receive, send)
            return
        request_id = request_id_for(headers_of(scope))
        keep_request_id(scope, request_id)
        # Not taken back at the end: the server logs what a request raised only afterwards, in the task of that request.
        current_request_id.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in headers_of(message) if name.lower() != REQUEST_ID.encode()]
                message["headers"] = [*others, (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id_for(headers: Headers) -> str:
    """The client's own, if it is one; else a new one."""
    for name, value in headers:
        if name == REQUEST_ID.encode() and _WELL_FORMED.fullmatch(given := value.decode("latin-1")):
            return given
    return uuid4().hex
