"""Errors: a refusal in the shape of OpenAI's errors, which its clients turn into their exceptions."""

import re
from collections.abc import Mapping
from dataclasses import replace

from fastapi import Response

from server.http.openai.schemas import ErrorBody, ErrorObject
from server.http.problems import PROBLEMS
from server.http.responses import json_bytes
from server.solving.refusals import Refusal, RefusalKind, invalid

PREFIX = "/v1"
"""Every error of a path below it has this shape."""

INVALID_STATUS = 400
"""OpenAI's status for invalid fields; clients raise `BadRequestError`. Elsewhere this server gives them 422."""

CODES: Mapping[RefusalKind, str] = {
    RefusalKind.UNAUTHORIZED: "invalid_api_key",
    RefusalKind.INVALID_REQUEST: "invalid_value",
    RefusalKind.QUOTA_EXCEEDED: "rate_limit_exceeded",
}
"""The codes that OpenAI has a name for. The others are our kinds of refusal."""

_NAMES = {
    "problem": "messages",
    "effort": "reasoning_effort",
    "trajectories": "search.trajectories",
    "timeout_s": "search.timeout_s",
}
"""Fields of `POST /solve` under the names that a chat request has for them."""


def is_openai_path(path: str) -> bool:
    """Whether clients of the OpenAI API expect its errors there."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def error_status(kind: RefusalKind) -> int:
    """The status of a refusal."""
    return INVALID_STATUS if kind is RefusalKind.INVALID_REQUEST else PROBLEMS[kind].status


def error_body(refusal: Refusal) -> ErrorBody:
    """The body for a refusal."""
    if refusal.kind is RefusalKind.INVALID_REQUEST:
        refusal = invalid(*(replace(error, field=_name(error.field)) for error in refusal.errors))
    param = next((error.field for error in refusal.errors if error.field), None)
    code = CODES.get(refusal.kind, refusal.kind.replace("-", "_"))
    if refusal.kind is RefusalKind.NOT_FOUND and param is not None:
        code = f"{param}_{code}"
    return ErrorBody(error=ErrorObject(message=refusal.detail, type=_type(refusal.kind), param=param, code=code))


def error_response(refusal: Refusal, *, headers: Mapping[str, str]) -> Response:
    """The response for a refusal."""
    body = json_bytes(error_body(refusal).model_dump())
    return Response(body, error_status(refusal.kind), headers, media_type="application/json")


def _name(field: str) -> str:
    """The field as OpenAI spells it: `messages[0].content` for `messages.0.content`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", _NAMES.get(field, field))


def _type(kind: RefusalKind) -> str:
    match error_status(kind):
        case 401:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case status if status < 500:
            return "invalid_request_error"
        case _:
            return "server_error"
