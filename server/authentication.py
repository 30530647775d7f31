"""Authentication: lets through requests that show one of the operator's API keys, and names the client of each.

An ASGI layer. Without keys everybody may pass, and a client is its address. Never logs or sends back what was shown.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import cast

from server.api_keys import ApiKeys
from server.refusals import Kind, Refusal
from server.request_ids import Application, Headers, Message, Receive, Send

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/health", "/metrics", "/version", "/openapi.json"})
"""For probes, scrapers and readers of the interface; nothing there tells of a problem."""
STATE_KEY = "client"
CHALLENGE = {"www-authenticate": "Bearer"}

Refuse = Callable[[Refusal, Message, Receive, Send], Awaitable[None]]
"""Answers a request with a refusal."""


class Authentication:
    """The layer; who asks is in `request.state.client` below it: the name of a key, or an address."""

    def __init__(self, app: Application, keys: ApiKeys | None, *, refuse: Refuse) -> None:
        self._app = app
        self._keys = keys
        self._refuse = refuse

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shown = list(_shown_keys(cast(Headers, scope["headers"])))
        owner = self._owner_of(shown)
        if owner is None and self._keys is not None and scope["path"] not in OPEN_PATHS:
            reason = "the API key is not one of this server's" if shown else "no API key was sent"
            detail = f"{reason}; send one as Authorization: Bearer <key>, or as X-API-Key: <key>"
            await self._refuse(Refusal(Kind.UNAUTHORIZED, detail), scope, receive, send)
            return
        state = cast("dict[str, object]", scope.setdefault("state", {}))
        state[STATE_KEY] = owner or address_of(scope)
        await self._app(scope, receive, send)

    def _owner_of(self, shown: list[str]) -> str | None:
        if self._keys is None:
            return None
        owners = [self._keys.owner_of(key) for key in shown]
        return next((owner for owner in owners if owner is not None), None)


def address_of(scope: Message) -> str:
    """The client's address; behind a proxy that the server trusts, the one that the proxy names."""
    address = cast("tuple[str, int] | None", scope.get("client"))
    return "unknown" if address is None else address[0]


def _shown_keys(headers: Headers) -> Generator[str]:
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"x-api-key":
            yield text
        elif name == b"authorization":
            scheme, _, key = text.partition(" ")
            if scheme.lower() == "bearer":
                yield key.strip()
