"""Access: which clients and which web pages may use the server. Two ASGI layers: API keys, and CORS where it is on.

Neither logs or sends back a key.
"""

from collections.abc import Iterator, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.http.errors import send_refusal
from server.http.layers import Layer
from server.observability.tracing import REQUEST_ID, TRACE_HEADERS
from server.settings.api_keys import ApiKeys
from server.solving.refusals import Refusal, RefusalKind

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/health", "/metrics", "/version", "/openapi.json"})
"""For probes, scrapers and readers of the interface. None of these responses holds anything of a problem."""


class Authentication(Layer):
    """Lets requests through that show one of the operator's API keys, and names the client of each."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        super().__init__(app)
        self._keys = keys

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = list(_shown_keys(Headers(scope=scope)))
        owner = next(filter(None, map(self._keys.owner_of, shown)), None)
        if owner is None and scope["path"] not in OPEN_PATHS:
            reason = "the API key is not one of this server's" if shown else "no API key was sent"
            detail = f"{reason}; send one as Authorization: Bearer <key>, or as X-API-Key: <key>"
            await send_refusal(Refusal(RefusalKind.UNAUTHORIZED, detail), scope, receive, send)
            return
        scope.setdefault("state", {})["client"] = owner
        await self.app(scope, receive, send)


def _shown_keys(headers: Headers) -> Iterator[str]:
    yield from (key.strip() for key in headers.getlist("x-api-key"))
    for authorization in headers.getlist("authorization"):
        scheme, _, key = authorization.strip().partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()


class Cors(CORSMiddleware):
    """Lets the pages of the operator's origins use the server from a browser.

    The framework decides; a preflight that it refuses is answered as a problem, like every other error. No cookie is
    let through: pages send keys themselves.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),  # all that any route takes
            # Headers that pages may send and read, besides those that every page may.
            allow_headers=("authorization", "content-type", *TRACE_HEADERS, "x-api-key", REQUEST_ID),
            expose_headers=("retry-after", REQUEST_ID),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        try:
            await super().__call__(scope, receive, send)
        except Refusal as refusal:
            await send_refusal(refusal, scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The framework's response. Raises a `Refusal` where the framework refuses."""
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            raise Refusal(RefusalKind.ORIGIN_REFUSED, bytes(response.body).decode())
        return response
