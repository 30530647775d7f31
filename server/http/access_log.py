"""Access log: one entry for each request, when it is over. Never reads a body or a query, and logs no header."""

import logging
from collections.abc import Callable
from time import monotonic

from server.http.asgi import Application, Message, Receive, Scope, Send, client_of, is_request, route_of, status_of
from server.observability.tracing import UNTRACED

logger = logging.getLogger(__name__)

_SHOWN_CHARS = 200
"""Of a path; ours are shorter, and what scanners ask for says enough by then."""


class AccessLog:
    """An ASGI layer. Successful probes are logged at debug: they come every few seconds."""

    def __init__(self, app: Application, *, now: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope):
            await self._app(scope, receive, send)
            return
        started_s = self._now()
        status: int | None = None

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            status = status_of(message) or status
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            self._log(scope, status, duration_s=self._now() - started_s)

    def _log(self, scope: Scope, status: int | None, *, duration_s: float) -> None:
        path = str(scope["path"])
        is_usual = path in UNTRACED and status is not None and status < 400
        entry = {
            "method": scope["method"],
            "path": path[:_SHOWN_CHARS],
            "route": route_of(scope),
            "status": status,
            "duration_s": round(duration_s, 6),
            "client": client_of(scope),
        }
        logger.log(
            logging.DEBUG if is_usual else logging.INFO,
            "%(method)s %(path)s %(status)s %(duration_s).3f s %(client)s",
            entry,
            extra=entry,
        )
