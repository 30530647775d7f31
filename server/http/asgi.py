"""ASGI: the types of the layers around the application, and where a request's id and client are kept between them.

The only module that knows how a scope is built. Layers further out write, layers further in and the routes read.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import cast

Message = MutableMapping[str, object]
Scope = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_STATE = "state"
_REQUEST_ID = "request_id"
_CLIENT = "client"


def is_request(scope: Scope) -> bool:
    """Whether it is an HTTP request, and not the application's lifespan."""
    return scope["type"] == "http"


def headers_of(message: Message) -> Headers:
    """Of a request's scope, names in lower case, or of the message that begins a response."""
    return cast("Headers | None", message.get("headers")) or []


def status_of(message: Message) -> int | None:
    """Of the message that begins a response; None for any other."""
    return cast("int", message["status"]) if message["type"] == "http.response.start" else None


def keep_request_id(scope: Scope, request_id: str) -> None:
    """From here on inwards it is the request's id."""
    _keep(scope, _REQUEST_ID, request_id)


def request_id_of(scope: Scope) -> str:
    """As `server.http.request_ids` found or made it."""
    return str(_state_of(scope)[_REQUEST_ID])


def keep_client(scope: Scope, client: str) -> None:
    """From here on inwards the request is this client's."""
    _keep(scope, _CLIENT, client)


def client_of(scope: Scope) -> str:
    """Whose request it is: as `server.http.authentication` found out, before that the client's address."""
    return str(_state_of(scope).get(_CLIENT) or address_of(scope))


def address_of(scope: Scope) -> str:
    """The client's address; behind a proxy that the server trusts, the one that the proxy names."""
    address = cast("tuple[str, int] | None", scope.get("client"))
    return "unknown" if address is None else address[0]


def route_of(scope: Scope) -> str | None:
    """The path's template, once a route has taken the request."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None


def _state_of(scope: Scope) -> dict[str, object]:
    return cast("dict[str, object] | None", scope.get(_STATE)) or {}


def _keep(scope: Scope, name: str, value: object) -> None:
    # A copy: the server may share one state among all requests. The scope itself is one for all layers.
    scope[_STATE] = {**_state_of(scope), name: value}
