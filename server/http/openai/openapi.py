"""OpenAPI: the responses of OpenAI's endpoints. Pure."""

from typing import Any

from server.http.openai.errors import error_status
from server.http.openai.schemas import ChatCompletion, ErrorBody, Model, ModelList
from server.http.problems import PROBLEMS
from server.solving.refusals import RefusalKind


def _errors(*kinds: RefusalKind) -> dict[int | str, dict[str, Any]]:
    """The errors by status. `default` keeps the framework from adding an error of its own shape."""
    documented = {error_status(kind): {"model": ErrorBody, "description": PROBLEMS[kind].title} for kind in kinds}
    return {**documented, "default": {"model": ErrorBody, "description": "Any other error"}}


_STREAM = {
    "schema": {
        "type": "object",
        "description": "One event of the stream",
        "properties": {"data": {"type": "string", "description": "A chunk as JSON, or [DONE]"}},
        "required": ["data"],
    },
    "example": 'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "58"}}]}\n\n',
}

CHAT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "description": "The completion; with `stream` its chunks",
        "content": {"text/event-stream": _STREAM},
    },
    **_errors(
        RefusalKind.INVALID_REQUEST,
        RefusalKind.UNAUTHORIZED,
        RefusalKind.NOT_FOUND,
        RefusalKind.BODY_TIMEOUT,
        RefusalKind.BODY_TOO_LARGE,
        RefusalKind.UNSUPPORTED_MEDIA_TYPE,
        RefusalKind.QUOTA_EXCEEDED,
        RefusalKind.SEARCH_FAILED,
        RefusalKind.NOT_READY,
    ),
}

MODELS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ModelList, "description": "The models"},
    **_errors(RefusalKind.UNAUTHORIZED),
}

MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Model, "description": "The model"},
    **_errors(RefusalKind.INVALID_REQUEST, RefusalKind.UNAUTHORIZED, RefusalKind.NOT_FOUND),
}
