"""OpenAPI document: what the framework cannot know of our responses and limits, added to what it can. Pure."""

from typing import Any, cast

from pydantic.json_schema import models_json_schema

from server.http.schemas import ProblemDetails, Readiness, SearchOptions, SolveRequest, SolveResponse
from server.settings.request_limits import REQUEST_LIMITS
from server.settings.settings import Settings
from server.solving.refusals import Kind

_REFERENCE = "#/components/schemas/{model}"


def _problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": _REFERENCE.format(model=ProblemDetails.__name__)}
    return {
        kind.value.status: {
            "description": kind.value.title,
            "content": {"application/problem+json": {"schema": schema}},
        }
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
    "example": 'event: answer_changed\ndata: {"answer": "58", "confidence": 0.61}\n\n',
}

SOLVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SolveResponse,
        "description": "The answer; with `stream` the events search_started, node, trajectory, answer_changed, done",
        "content": {"text/event-stream": _STREAM},
    },
    **_problems(
        Kind.MALFORMED_BODY,
        Kind.BODY_TIMEOUT,
        Kind.BODY_TOO_LARGE,
        Kind.UNSUPPORTED_MEDIA_TYPE,
        Kind.INVALID_REQUEST,
        Kind.UNAUTHORIZED,
        Kind.QUOTA_EXCEEDED,
        Kind.SEARCH_FAILED,
        Kind.NOT_READY,
    ),
}

CANCEL_RESPONSES: dict[int | str, dict[str, Any]] = _problems(Kind.UNAUTHORIZED, Kind.NOT_FOUND, Kind.INVALID_REQUEST)

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

_MODELS = {"": SolveRequest, "search": SearchOptions}
"""By the field of the request that holds one."""


def complete_document(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The framework's document with the problem schemas and the operator's limits filled in."""
    schemas = cast("dict[str, dict[str, Any]]", document["components"]["schemas"])
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=_REFERENCE)
    schemas.update(problems["$defs"])
    for limit in REQUEST_LIMITS:
        within, _, field = limit.field.rpartition(".")
        number, _ = schemas[_MODELS[within].__name__]["properties"][field]["anyOf"]
        number["maximum"] = limit.most(settings)
    schemas["SolveRequest"]["properties"]["problem"]["maxLength"] = settings.max_problem_chars
    if settings.api_keys is not None:
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
        for path in ("/solve", "/solve/{search_id}/cancel"):
            document["paths"][path]["post"]["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    return document
