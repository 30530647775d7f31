"""Layers: request ids, traces, access log, security headers and unread bodies, as ASGI layers around the application.

`server.app` puts the layers together and gives their order. A layer passes values to the inner ones in the state of the
request's scope: `request_id`, the `status` of the response, and the name of the `client` that has shown a key.
"""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from time import monotonic
from uuid import uuid4

from opentelemetry.trace import Tracer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.observability.tracing import NO_TRACER, REQUEST_ID, UNTRACED, current_request_id, request_span

SECURITY_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Browsers trust the declared type of a response, store none and frame none. Strict-Transport-Security is left to the
proxy that ends TLS in front of this server."""

access_log = logging.getLogger("server.access_log")

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""What can stand in a log line or a URL without quoting."""
_SHOWN_CHARS = 200
"""Most characters of a path in the log. Our own paths are shorter."""


class Layer(ABC):
    """An ASGI application around another one. It leaves connections alone that are no HTTP requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        handle = self.handle if scope["type"] == "http" else self.app
        await handle(scope, receive, send)

    @abstractmethod
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""


def on_response(send: Send, act: Callable[[Message], None]) -> Send:
    """A `send` that first shows `act` the message that begins the response. `act` may change the message."""

    async def send_shown(message: Message) -> None:
        if message["type"] == "http.response.start":
            act(message)
        await send(message)

    return send_shown


class RequestIds(Layer):
    """Gives each request an id and sends it back: the client's `X-Request-Id` where it is well-formed, else a new one.

    It is the outermost layer, so that every response and every log entry carries the id.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _WELL_FORMED.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        # Not reset at the end: the server logs what a request raised only afterwards, in the task of that request.
        current_request_id.set(request_id)

        def add_id(response: Message) -> None:
            scope["state"]["status"] = response["status"]
            MutableHeaders(scope=response)[REQUEST_ID] = request_id

        await self.app(scope, receive, on_response(send, add_id))


class AccessLog(Layer):
    """Logs each request when it is over. Reads no body and no query, and logs no header.

    Successful probes are logged at debug: they come every few seconds.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = monotonic()
        try:
            await self.app(scope, receive, send)
        finally:
            status = status_of(scope)
            is_usual = scope["path"] in UNTRACED and status is not None and status < 400
            entry = {
                "method": scope["method"],
                "path": scope["path"][:_SHOWN_CHARS],
                "route": route_of(scope),
                "status": status,
                "duration_s": round(monotonic() - started_s, 6),
                "client": client_of(scope),
            }
            access_log.log(
                logging.DEBUG if is_usual else logging.INFO,
                "%(method)s %(path)s %(status)s %(duration_s).3f s %(client)s",
                entry,
                extra=entry,
            )


class Traces(Layer):
    """Continues the client's trace or begins one, and records each request as a span."""

    def __init__(self, app: ASGIApp, tracer: Tracer = NO_TRACER) -> None:
        super().__init__(app)
        self._tracer = tracer

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        with request_span(method, scope["path"], scope["headers"], tracer=self._tracer) as recorded:
            try:
                await self.app(scope, receive, send)
            finally:
                if (status := status_of(scope)) is not None:
                    recorded.set_attribute("http.response.status_code", status)
                if (route := route_of(scope)) is not None:
                    recorded.update_name(f"{method} {route}")
                    recorded.set_attribute("http.route", route)


class SecurityHeaders(Layer):
    """Adds `SECURITY_HEADERS` to every response, except those that the response sets itself."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        def add_headers(response: Message) -> None:
            headers = MutableHeaders(scope=response)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)

        await self.app(scope, receive, on_response(send, add_headers))


def status_of(scope: Scope) -> int | None:
    """The status of the response, once it has begun."""
    return scope["state"].get("status")


def route_of(scope: Scope) -> str | None:
    """The template of the path, once a route has taken the request."""
    return getattr(scope.get("route"), "path", None)


def client_of(scope: Scope) -> str:
    """The client that sent the request: the name of its API key, or else its address.

    Behind a proxy that the server trusts it is the address that the proxy names.
    """
    address = scope.get("client") or ("unknown", 0)
    return scope.get("state", {}).get("client") or address[0]


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
