"""Security headers: tells browsers to take every response for what it says it is, to keep none, and to frame none.

An ASGI layer. A response that sets one of these headers itself is left its own.
"""

from server.http.asgi import Application, Headers, Message, Receive, Scope, Send, headers_of

SECURITY_HEADERS: Headers = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
"""Strict-Transport-Security is for whoever ends TLS in front of this server."""


class SecurityHeaders:
    """The layer."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = headers_of(message)
                present = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *(pair for pair in SECURITY_HEADERS if pair[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
