"""OpenAPI: the document matches the server."""

import json
import re
from typing import Any

from pydantic import SecretStr

from server.settings.settings import Settings
from tests.server.serving import serve


async def _document(settings: Settings | None = None) -> dict[str, Any]:
    async with serve(settings=settings) as served:
        return (await served.client.get("/openapi.json")).json()


async def test_every_reference_leads_somewhere() -> None:
    document = await _document()
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert {"ProblemDetails", "FieldProblem", "SolveResponse"} <= names
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_every_status_of_solve_is_documented_with_its_body() -> None:
    responses = (await _document())["paths"]["/solve"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "408", "413", "415", "422", "429", "500", "503"}
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    for status, response in responses.items():
        assert status == "200" or set(response["content"]) == {"application/problem+json"}


async def test_every_status_of_chat_is_documented_with_its_body() -> None:
    responses = (await _document())["paths"]["/v1/chat/completions"]["post"]["responses"]
    statuses = {"200", "400", "401", "404", "408", "413", "415", "429", "500", "503", "default"}
    assert set(responses) == statuses
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    shown = {response["content"]["application/json"]["schema"]["$ref"] for response in responses.values()}
    assert shown == {"#/components/schemas/ChatCompletion", "#/components/schemas/ErrorBody"}


async def test_the_operators_limits_are_in_it() -> None:
    settings = Settings(
        max_trajectories=20,
        max_timeout_s=200.0,
        max_candidates=9,
        max_depth=17,
        max_parallel_rollouts=5,
        max_beam_width=11,
        max_exploration=6.5,
        max_tokens=2_000_000,
        max_temperature=1.5,
        max_problem_chars=50,
    )
    schemas = (await _document(settings))["components"]["schemas"]
    request, options = schemas["SolveRequest"]["properties"], schemas["SearchOptions"]["properties"]
    assert request["problem"]["maxLength"] == 50
    assert [
        request[name]["anyOf"][0]["maximum"] for name in ("trajectories", "timeout_s", "max_tokens", "temperature")
    ] == [
        20,
        200.0,
        2_000_000,
        1.5,
    ]
    limited = ("candidates", "depth", "parallel_rollouts", "beam_width", "exploration")
    assert [options[name]["anyOf"][0]["maximum"] for name in limited] == [9, 17, 5, 11, 6.5]
    assert schemas["SolveRequest"]["additionalProperties"] is False
    chat, chat_search = schemas["ChatRequest"]["properties"], schemas["ChatSearch"]["properties"]
    names = ("max_tokens", "max_completion_tokens", "temperature")
    assert [chat[name]["anyOf"][0]["maximum"] for name in names] == [2_000_000, 2_000_000, 1.5]
    assert [chat_search[name]["anyOf"][0]["maximum"] for name in (*limited, "trajectories", "timeout_s")] == [
        9,
        17,
        5,
        11,
        6.5,
        20,
        200.0,
    ]


async def test_keys_are_asked_for_only_where_the_operator_wants_them() -> None:
    assert "securitySchemes" not in (await _document())["components"]
    document = await _document(Settings(api_keys=SecretStr("a-key-that-is-long-enough")))
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api_key"}
    assert document["paths"]["/solve"]["post"]["security"] == [{"bearer": []}, {"api_key": []}]
    assert "security" not in document["paths"]["/metrics"]["get"]
    assert "security" in document["paths"]["/v1/models"]["get"]
