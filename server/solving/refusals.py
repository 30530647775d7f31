"""Refusals: every reason for which a request gets no answer, and what to tell the client. Sends nothing itself.

A refusal is raised where the reason is found and rendered once, at the edge (`server.http.problem_json`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from server.http.asgi import Receive, Scope, Send


class _Kind(NamedTuple):
    status: int
    name: str
    """Last part of the problem's `type`: what programs tell kinds apart by."""
    title: str


class Kind(Enum):
    """The kinds of refusal. An operator's limit is `invalid_request` too: the errors name it."""

    MALFORMED_BODY = _Kind(400, "malformed-body", "The body is not JSON")
    UNAUTHORIZED = _Kind(401, "unauthorized", "An API key is needed")
    ORIGIN_REFUSED = _Kind(403, "origin-refused", "Pages of this origin may not ask for this")
    NOT_FOUND = _Kind(404, "not-found", "There is nothing here")
    METHOD_NOT_ALLOWED = _Kind(405, "method-not-allowed", "The path does not take this method")
    BODY_TIMEOUT = _Kind(408, "body-timeout", "The body did not come in time")
    BODY_TOO_LARGE = _Kind(413, "body-too-large", "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = _Kind(415, "unsupported-media-type", "The body must be application/json")
    INVALID_REQUEST = _Kind(422, "invalid-request", "The request has invalid fields")
    QUOTA_EXCEEDED = _Kind(429, "quota-exceeded", "This key has all the searches it may have")
    SEARCH_FAILED = _Kind(500, "search-failed", "The search failed")
    INTERNAL_ERROR = _Kind(500, "internal-error", "The server failed")
    NOT_READY = _Kind(503, "not-ready", "The server is not ready")
    OVERLOADED = _Kind(503, "overloaded", "The server is busy")
    STOPPING = _Kind(503, "stopping", "The server is shutting down")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """What is wrong with one field."""

    field: str
    """Dotted: `search.depth`; empty for the body as a whole."""
    detail: str
    limit: int | float | None = None
    value: str | int | float | bool | None = None
    """What was given; the length, where the limit is one of length."""


class Refusal(Exception):
    """The request gets no answer."""

    def __init__(
        self, kind: Kind, detail: str, *, errors: tuple[FieldError, ...] = (), retry_after_s: int | None = None
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s


Refuse = Callable[[Refusal, Scope, Receive, Send], Awaitable[None]]
"""Answers a request with a refusal."""


def invalid(*errors: FieldError) -> Refusal:
    """The refusal of a request for its fields."""
    detail = "; ".join(f"{error.field}: {error.detail}" if error.field else error.detail for error in errors)
    return Refusal(Kind.INVALID_REQUEST, detail, errors=errors)


def over_limit(field: str, value: float, *, limit: float, unit: str = "") -> FieldError:
    """A number, or a length in `unit`, above what the operator allows."""
    return FieldError(field=field, detail=f"at most {limit}{unit} allowed, got {value}{unit}", limit=limit, value=value)
