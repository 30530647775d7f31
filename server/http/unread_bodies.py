"""Unread bodies: closes the connection of a request that is answered before its body has come to its end.

Else the server would go on taking the rest, for as long as the client goes on sending. An ASGI layer around all that
answer; requests without a body, and those whose body was read, keep their connection. Reads and refuses nothing itself.
"""

from server.http.asgi import Application, Headers, Message, Receive, Scope, Send, headers_of, is_request


class UnreadBodies:
    """The layer."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope) or not _has_body(headers_of(scope)):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def receive_watched() -> Message:
            nonlocal is_read
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                is_read = True
            return message

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_read:
                others = [(name, value) for name, value in headers_of(message) if name.lower() != b"connection"]
                message["headers"] = [*others, (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_watched, send_closing)


def _has_body(headers: Headers) -> bool:
    """As the head announces it."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0") != b"")
        for name, value in headers
    )
