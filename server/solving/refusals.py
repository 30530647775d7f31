"""Refusals: the reasons for which a request gets no result.

A refusal is raised where the reason is found. `server.http.problems` alone turns it into a response.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class RefusalKind(StrEnum):
    """Why a request is refused. Programs distinguish refusals by these names."""

    MALFORMED_BODY = "malformed-body"
    """The body is not JSON."""
    UNAUTHORIZED = "unauthorized"
    """The client has shown none of the operator's API keys."""
    ORIGIN_REFUSED = "origin-refused"
    """A web page of an origin that the operator does not allow asked."""
    NOT_FOUND = "not-found"
    """There is no such path, or no such search."""
    METHOD_NOT_ALLOWED = "method-not-allowed"
    """The path exists and does not take this method."""
    BODY_TIMEOUT = "body-timeout"
    """The body took too long to arrive."""
    BODY_TOO_LARGE = "body-too-large"
    """The body is longer than the operator allows."""
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    """The header says that the body is something else than JSON."""
    INVALID_REQUEST = "invalid-request"
    """Fields are wrong, or above a limit of the operator's. The errors name them."""
    QUOTA_EXCEEDED = "quota-exceeded"
    """The client already has as many searches as one client may have."""
    SEARCH_FAILED = "search-failed"
    """A part of the server failed during the search, and trying again will not help."""
    INTERNAL_ERROR = "internal-error"
    """The server has a bug."""
    NOT_READY = "not-ready"
    """A part of the server is starting, or is broken and will be restarted."""
    OVERLOADED = "overloaded"
    """All slots and all places in the queue are taken."""
    STOPPING = "stopping"
    """The server is shutting down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """The error of one field."""

    field: str
    """Dotted: `search.depth`; empty for the request as a whole."""
    detail: str
    limit: int | float | None = None
    value: str | int | float | bool | None = None
    """The value given; its length, if the limit is one of length."""


@dataclass(eq=False)
class Refusal(Exception):
    """The request gets no result."""

    kind: RefusalKind
    detail: str
    """For the client, in a sentence."""
    errors: tuple[FieldError, ...] = field(default=(), kw_only=True)
    retry_after_s: int | None = field(default=None, kw_only=True)
    """When another try may succeed."""


def invalid(*errors: FieldError) -> Refusal:
    """The refusal of a request for its fields."""
    detail = "; ".join(f"{error.field}: {error.detail}" if error.field else error.detail for error in errors)
    return Refusal(RefusalKind.INVALID_REQUEST, detail, errors=errors)


def over_limit(field: str, value: float, *, limit: float, unit: str = "") -> FieldError:
    """A number, or a length in `unit`, above what the operator allows."""
    return FieldError(field=field, detail=f"at most {limit}{unit} allowed, got {value}{unit}", limit=limit, value=value)
