"""OpenAPI: adds our problem documents, streams and limits to the framework's document. Pure."""

from typing import Any, cast

from pydantic.json_schema import models_json_schema

from server.http.access import OPEN_PATHS
from server.http.openai.schemas import ChatRequest, ChatSearch
from server.http.problems import MEDIA_TYPE, PROBLEMS
from server.http.schemas import ProblemDetails, Readiness, SearchOptions, SolveRequest, SolveResponse
from server.settings.settings import REQUEST_LIMITS, Settings
from server.solving.refusals import RefusalKind

_REFERENCE = "#/components/schemas/{model}"


def _problems(*kinds: RefusalKind) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": _REFERENCE.format(model=ProblemDetails.__name__)}
    return {
        PROBLEMS[kind].status: {"description": PROBLEMS[kind].title, "content": {MEDIA_TYPE: {"schema": schema}}}
        for kind in kinds
    }


_STREAM = {
    "schema": {
        "type": "object",
        "description": "One event of the stream",
        "properties": {
            "event": {"enum": ["search_started", "node", "trajectory", "answer_changed", "done", "error"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["event", "data"],
    },
    "example": 'event: answer_changed\ndata: {"answer": "58", "confidence": 0.61, "confidence_fitted": false}\n\n',
}

SOLVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SolveResponse,
        "description": "The answer; with `stream` the events search_started, node, trajectory, answer_changed, done",
        "content": {"text/event-stream": _STREAM},
    },
    **_problems(
        RefusalKind.MALFORMED_BODY,
        RefusalKind.BODY_TIMEOUT,
        RefusalKind.BODY_TOO_LARGE,
        RefusalKind.UNSUPPORTED_MEDIA_TYPE,
        RefusalKind.INVALID_REQUEST,
        RefusalKind.UNAUTHORIZED,
        RefusalKind.QUOTA_EXCEEDED,
        RefusalKind.SEARCH_FAILED,
        RefusalKind.NOT_READY,
    ),
}

CANCEL_RESPONSES: dict[int | str, dict[str, Any]] = _problems(
    RefusalKind.UNAUTHORIZED, RefusalKind.NOT_FOUND, RefusalKind.INVALID_REQUEST
)

METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}

READYZ_RESPONSES: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "Not every part is ready"}
}


_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""Either will do."""

_LIMITED = (SolveRequest, SearchOptions, ChatRequest, ChatSearch)
"""Schemas with fields that the operator limits."""
_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Fields that have two names."""


def complete_document(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The framework's document with the problem schemas and the operator's limits filled in."""
    schemas = cast("dict[str, dict[str, Any]]", document["components"]["schemas"])
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=_REFERENCE)
    schemas.update(problems["$defs"])
    for limit in REQUEST_LIMITS:
        field = limit.field.rpartition(".")[2]
        for properties in (schemas[model.__name__]["properties"] for model in _LIMITED):
            for name in {field, _OTHER_NAMES.get(field, field)} & set(properties):
                number, _ = properties[name]["anyOf"]
                number["maximum"] = limit.most(settings)
    schemas["SolveRequest"]["properties"]["problem"]["maxLength"] = settings.max_problem_chars
    schemas["ChatRequest"]["properties"]["model"]["enum"] = [settings.served_model_name]
    if settings.api_keys is not None:
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
        for path, operations in document["paths"].items():
            if path not in OPEN_PATHS:
                for operation in operations.values():
                    operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    return document
