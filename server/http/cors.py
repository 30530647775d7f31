"""CORS: lets the pages of the operator's origins use the server from a browser. An ASGI layer, there where it is on.

The framework decides; a preflight that it turns down is answered as a problem, like every other error.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from server.http.asgi import Application, Receive, Scope, Send
from server.observability.tracing import REQUEST_ID, TRACE_HEADERS
from server.solving.refusals import Kind, Refusal, Refuse

METHODS = ("GET", "POST")
"""All that any route takes."""
SENT = ("authorization", "content-type", *TRACE_HEADERS, "x-api-key", REQUEST_ID)
"""What pages of allowed origins may send, besides what every page may."""
EXPOSED = ("retry-after", REQUEST_ID)
"""What they may read, besides what every page may."""


class Cors(CORSMiddleware):
    """The layer. It lets no cookie through: keys are sent by the page itself."""

    def __init__(self, app: Application, origins: Collection[str], *, refuse: Refuse) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=EXPOSED)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        try:
            await super().__call__(scope, receive, send)
        except _PreflightRefused as refused:
            await self._refuse(Refusal(Kind.ORIGIN_REFUSED, str(refused)), scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Raises for one that is turned down."""
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            raise _PreflightRefused(bytes(response.body).decode())
        return response


class _PreflightRefused(Exception):
    """With the framework's reason."""
