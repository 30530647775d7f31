"""Problem JSON: renders every error as RFC 9457 `application/problem+json`, those of the web framework included."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from server.http.asgi import Receive, Scope, Send, request_id_of
from server.http.schemas import FieldProblem, ProblemDetails
from server.http.wire import json_bytes
from server.solving.refusals import FieldError, Kind, Refusal, invalid

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:rstar:problem:"

_KIND_BY_STATUS = {kind.value.status: kind for kind in reversed(Kind)}
_HEADERS = {Kind.UNAUTHORIZED: {"www-authenticate": "Bearer"}}
_SHOWN_CHARS = 80
"""Of a value sent back: enough to recognise it."""


def answer_errors_as_problems(app: FastAPI) -> None:
    """From now on no other error body leaves `app`."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_error)


def problem_details(refusal: Refusal, *, request_id: str, instance: str) -> ProblemDetails:
    """The body for a refusal."""
    status, name, title = refusal.kind.value
    return ProblemDetails(
        type=TYPE_PREFIX + name,
        title=title,
        status=status,
        detail=refusal.detail,
        instance=instance,
        request_id=request_id,
        retry_after_s=refusal.retry_after_s,
        errors=[_field_problem(error) for error in refusal.errors],
    )


def problem_response(refusal: Refusal, request: Request, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response for a refusal."""
    details = problem_details(refusal, request_id=request_id_of(request.scope), instance=request.url.path)
    all_headers = {**_HEADERS.get(refusal.kind, {}), **(headers or {})}
    if refusal.retry_after_s is not None:
        all_headers["retry-after"] = str(refusal.retry_after_s)
    return Response(
        json_bytes(details.model_dump(exclude_none=True)),
        status_code=details.status,
        headers=all_headers,
        media_type=MEDIA_TYPE,
    )


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with a refusal, from one of the layers around the application."""
    response = problem_response(refusal, Request(scope))
    await response(scope, receive, send)


def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem_response(error, request)


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = cast("Sequence[Mapping[str, object]]", error.errors())
    for detail in details:
        if detail["type"] == "json_invalid":
            position = cast("tuple[object, ...]", detail["loc"])[-1]
            reason = cast("Mapping[str, object]", detail["ctx"])["error"]
            return problem_response(Refusal(Kind.MALFORMED_BODY, f"{reason}, at character {position}"), request)
    return problem_response(invalid(*(_field_error(detail) for detail in details)), request)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KIND_BY_STATUS.get(error.status_code, Kind.INTERNAL_ERROR)
    detail = f"{request.method} {request.url.path}: {HTTPStatus(kind.value.status).phrase}"
    if kind is Kind.MALFORMED_BODY:
        detail = "the body cannot be read as JSON in UTF-8"
    return problem_response(Refusal(kind, detail), request, headers=error.headers)


def _on_error(request: Request, _: Exception) -> Response:
    """The server raises the exception again afterwards, into the log."""
    return problem_response(Refusal(Kind.INTERNAL_ERROR, "the log says more under this request's id"), request)


def _field_error(detail: Mapping[str, object]) -> FieldError:
    """From what pydantic says about one field."""
    location = cast("tuple[str | int, ...]", detail["loc"])
    field = ".".join(str(part) for part in location if part != "body")
    value = detail["input"]
    context = cast("Mapping[str, object]", detail.get("ctx") or {})
    limit = next((bound for name in _BOUNDS if isinstance(bound := context.get(name), int | float)), None)
    message = str(detail["msg"]).replace("Input should be", "must be").replace("String should have", "must have")
    match detail["type"]:
        case "missing" if not field:
            return FieldError(field="", detail="a JSON object is required, got an empty one or null")
        case "missing":
            return FieldError(field=field, detail="is required")
        case "extra_forbidden":
            return FieldError(field=field, detail="there is no such field")
        case "model_attributes_type" | "model_type":
            return FieldError(field=field, detail=f"must be a JSON object, got {_shown(value)}")
        case _:
            return FieldError(
                field=field, detail=f"{message}, got {_shown(value)}", limit=limit, value=_as_value(value)
            )


_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")


def _shown(value: object) -> str:
    if isinstance(value, str):
        shown = repr(value[:_SHOWN_CHARS])
        return shown if len(value) <= _SHOWN_CHARS else f"{shown}… ({len(value)} characters)"
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return _shown_number(value)
        case list():
            return "a list"
        case _:
            return "an object"


def _shown_number(value: float) -> str:
    # Python refuses to spell out integers of thousands of digits.
    return str(value) if abs(value) < 1e15 else f"{'' if value > 0 else '-'}a number of that size"


def _as_value(value: object) -> str | int | float | bool | None:
    match value:
        case str():
            return value[:_SHOWN_CHARS]
        case bool():
            return value
        case int() | float() if abs(value) < 1e15:
            return value
        case _:
            return None


def _field_problem(error: FieldError) -> FieldProblem:
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in error.field.split(".") if part)
    return FieldProblem(field=error.field, pointer=pointer, detail=error.detail, limit=error.limit, value=error.value)
