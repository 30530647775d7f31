"""OpenAPI document: what the framework cannot know of our responses and limits, added to what it can. Pure."""

from typing import Any, cast

from pydantic.json_schema import models_json_schema

from server.refusals import Kind
from server.schemas import ProblemDetails, Readiness, SolveResponse
from server.settings import Settings

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
    "schema": {"type": "string"},
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
        Kind.BODY_TOO_LARGE,
        Kind.UNSUPPORTED_MEDIA_TYPE,
        Kind.INVALID_REQUEST,
        Kind.SEARCH_FAILED,
        Kind.NOT_READY,
    ),
}

READYZ_RESPONSES: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "Not every part is ready"}
}


def complete_document(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The framework's document with the problem schemas and the operator's limits filled in."""
    schemas = cast("dict[str, dict[str, Any]]", document["components"]["schemas"])
    _, problems = models_json_schema([(ProblemDetails, "serialization")], ref_template=_REFERENCE)
    schemas.update(problems["$defs"])
    for model, field, limit in (
        ("SolveRequest", "trajectories", settings.max_trajectories),
        ("SolveRequest", "timeout_s", settings.max_timeout_s),
        ("SearchOptions", "candidates", settings.max_candidates),
        ("SearchOptions", "depth", settings.max_depth),
        ("SearchOptions", "parallel_rollouts", settings.max_parallel_rollouts),
    ):
        number, _ = schemas[model]["properties"][field]["anyOf"]
        number["maximum"] = limit
    schemas["SolveRequest"]["properties"]["problem"]["maxLength"] = settings.max_problem_chars
    return document
