"""Problems: a refusal as RFC 9457 `application/problem+json`.

This is the only place that decides which status and title a kind of refusal gets.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fastapi import Request, Response

from server.http.responses import json_bytes
from server.http.schemas import FieldProblem, ProblemDetails
from server.solving.refusals import FieldError, Refusal, RefusalKind

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:rstar:problem:"
"""Before the name of the kind."""


class Problem(NamedTuple):
    """How a kind of refusal looks on the wire."""

    status: int
    title: str


PROBLEMS: Mapping[RefusalKind, Problem] = {
    RefusalKind.MALFORMED_BODY: Problem(400, "The body is not JSON"),
    RefusalKind.UNAUTHORIZED: Problem(401, "An API key is needed"),
    RefusalKind.ORIGIN_REFUSED: Problem(403, "Pages of this origin may not ask for this"),
    RefusalKind.NOT_FOUND: Problem(404, "There is nothing here"),
    RefusalKind.METHOD_NOT_ALLOWED: Problem(405, "The path does not take this method"),
    RefusalKind.BODY_TIMEOUT: Problem(408, "The body did not come in time"),
    RefusalKind.BODY_TOO_LARGE: Problem(413, "The body is too large"),
    RefusalKind.UNSUPPORTED_MEDIA_TYPE: Problem(415, "The body must be application/json"),
    RefusalKind.INVALID_REQUEST: Problem(422, "The request has invalid fields"),
    RefusalKind.QUOTA_EXCEEDED: Problem(429, "This key has all the searches it may have"),
    RefusalKind.INTERNAL_ERROR: Problem(500, "The server failed"),
    RefusalKind.SEARCH_FAILED: Problem(500, "The search failed"),
    RefusalKind.NOT_READY: Problem(503, "The server is not ready"),
    RefusalKind.OVERLOADED: Problem(503, "The server is busy"),
    RefusalKind.STOPPING: Problem(503, "The server is shutting down"),
}


def problem_details(refusal: Refusal, request: Request) -> ProblemDetails:
    """The body for a refusal."""
    status, title = PROBLEMS[refusal.kind]
    return ProblemDetails(
        type=TYPE_PREFIX + refusal.kind,
        title=title,
        status=status,
        detail=refusal.detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        retry_after_s=refusal.retry_after_s,
        errors=[_field_problem(error) for error in refusal.errors],
    )


def problem_response(refusal: Refusal, request: Request, *, headers: Mapping[str, str]) -> Response:
    """The response for a refusal."""
    details = problem_details(refusal, request)
    body = json_bytes(details.model_dump(exclude_none=True))
    return Response(body, status_code=details.status, headers=dict(headers), media_type=MEDIA_TYPE)


def _field_problem(error: FieldError) -> FieldProblem:
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in error.field.split(".") if part)
    return FieldProblem(field=error.field, pointer=pointer, detail=error.detail, limit=error.limit, value=error.value)
