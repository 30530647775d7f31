"""Authentication: lets through requests that show one of the operator's API keys, and names the client of each.

An ASGI layer. Without keys everybody may pass, and a client is its address. Never logs or sends back what was shown.
"""

from collections.abc import Generator

from server.http.api_keys import ApiKeys
from server.http.asgi import Application, Headers, Receive, Scope, Send, address_of, headers_of, is_request, keep_client
from server.solving.refusals import Kind, Refusal, Refuse

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/health", "/metrics", "/version", "/openapi.json"})
"""For probes, scrapers and readers of the interface; nothing there tells of a problem."""


class Authentication:
    """The layer; below it `server.http.asgi.client_of` tells who asks: the name of a key, or an address."""

    def __init__(self, app: Application, keys: ApiKeys | None, *, refuse: Refuse) -> None:
        self._app = app
        self._keys = keys
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope):
            await self._app(scope, receive, send)
            return
        shown = list(_shown_keys(headers_of(scope)))
        owner = self._owner_of(shown)
        if owner is None and self._keys is not None and scope["path"] not in OPEN_PATHS:
            reason = "the API key is not one of this server's" if shown else "no API key was sent"
            detail = f"{reason}; send one as Authorization: Bearer <key>, or as X-API-Key: <key>"
            await self._refuse(Refusal(Kind.UNAUTHORIZED, detail), scope, receive, send)
            return
        keep_client(scope, owner or address_of(scope))
        await self._app(scope, receive, send)

    def _owner_of(self, shown: list[str]) -> str | None:
        if self._keys is None:
            return None
        owners = [self._keys.owner_of(key) for key in shown]
        return next((owner for owner in owners if owner is not None), None)


def _shown_keys(headers: Headers) -> Generator[str]:
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"x-api-key":
            yield text
        elif name == b"authorization":
            scheme, _, key = text.partition(" ")
            if scheme.lower() == "bearer":
                yield key.strip()
