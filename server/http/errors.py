"""Errors: turns every error into a response, those of the web framework included.

An exception becomes a refusal first. The path then decides its shape: OpenAI's below `/v1`, else a problem document.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from server.http.openai.errors import error_response, is_openai_path
from server.http.problems import PROBLEMS, problem_response
from server.solving.refusals import FieldError, Refusal, RefusalKind, invalid

_SHOWN_CHARS = 80
"""Of a value sent back: enough to recognise it."""
_LARGE = 1e15
"""Numbers from here on are not sent back."""
_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")
"""Names that pydantic gives to the limit of a field."""


def answer_errors(app: FastAPI) -> None:
    """Make `app` answer every error in the shape that its path promises."""
    for kind in (Refusal, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _on_error)


def refusal_response(refusal: Refusal, request: Request, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response for a refusal, with its own headers added to those given."""
    all_headers = dict(headers or {})
    if refusal.kind is RefusalKind.UNAUTHORIZED:
        all_headers["www-authenticate"] = "Bearer"
    if refusal.retry_after_s is not None:
        all_headers["retry-after"] = str(refusal.retry_after_s)
    if is_openai_path(request.url.path):
        return error_response(refusal, headers=all_headers)
    return problem_response(refusal, request, headers=all_headers)


def internal_error() -> Refusal:
    """The refusal for an unexpected exception, without any detail of it."""
    return Refusal(RefusalKind.INTERNAL_ERROR, "the log says more under this request's id")


async def send_refusal(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with a refusal, from one of the layers around the application."""
    response = refusal_response(refusal, Request(scope))
    await response(scope, receive, send)


def _on_error(request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return refusal_response(_refusal_for(error, request), request, headers=headers)


def _refusal_for(error: Exception, request: Request) -> Refusal:
    match error:
        case Refusal():
            return error
        case RequestValidationError():
            first, *_ = details = error.errors()
            if first["type"] == "json_invalid":
                detail = f"{first['ctx']['error']}, at character {first['loc'][-1]}"
                return Refusal(RefusalKind.MALFORMED_BODY, detail)
            return invalid(*map(field_error, details))
        case HTTPException(status_code=400):
            return Refusal(RefusalKind.MALFORMED_BODY, "the body cannot be read as JSON in UTF-8")
        case HTTPException():
            kinds = (kind for kind, problem in PROBLEMS.items() if problem.status == error.status_code)
            kind = next(kinds, RefusalKind.INTERNAL_ERROR)
            phrase = HTTPStatus(PROBLEMS[kind].status).phrase
            return Refusal(kind, f"{request.method} {request.url.path}: {phrase}")
        case _:
            return internal_error()  # the server raises the exception again afterwards, into the log


def field_error(detail: Mapping[str, object]) -> FieldError:
    """The error for one field, from pydantic's description of it."""
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


def _shown(value: object) -> str:
    """The value as a message quotes it, in short. Python refuses to spell out integers of thousands of digits."""
    match value:
        case str() if len(value) > _SHOWN_CHARS:
            return f"{value[:_SHOWN_CHARS]!r}… ({len(value)} characters)"
        case str():
            return repr(value)
        case int() | float() if abs(value) >= _LARGE:
            return "a number of that size" if value > 0 else "-a number of that size"
        case None | bool() | int() | float():
            return json.dumps(value)
        case list():
            return "a list"
        case _:
            return "an object"


def _as_value(value: object) -> str | int | float | bool | None:
    """The value as the error gives it to programs; None for one that is too long, or no scalar."""
    match value:
        case str():
            return value[:_SHOWN_CHARS]
        case int() | float() if abs(value) < _LARGE:
            return value
        case _:
            return None
