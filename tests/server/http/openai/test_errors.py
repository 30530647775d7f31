"""Errors below /v1: OpenAI's shape whatever the reason, and nobody else's elsewhere."""

import asyncio
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from server.http.openai.errors import error_body, error_status, is_openai_path
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import Part
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind
from tests.server.http.openai.openai_server import KEY, PATH, chat_body
from tests.server.serving import Served, check_problem, serve

JSON = {"content-type": "application/json"}


def check_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Every error looks alike; returns it."""
    body = response.json()
    assert (response.status_code, set(body)) == (status, {"error"})
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert (body["error"]["code"], bool(body["error"]["message"])) == (code, True)
    assert "Traceback" not in response.text
    return body["error"]


def test_every_kind_of_refusal_has_a_type_and_a_code() -> None:
    for kind in RefusalKind:
        error = error_body(Refusal(kind, "so it is")).error
        assert error.type.endswith("_error")
        assert error.code
        assert (error_status(kind) >= 500) == (error.type == "server_error")


def test_only_paths_below_v1_are_openais() -> None:
    assert [path for path in ("/v1", "/v1/x", "/v1x", "/solve", "/solve/v1/") if is_openai_path(path)] == [
        "/v1",
        "/v1/x",
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/responses", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/models/gpt-5", 404, "model_not_found"),
        ("GET", PATH, 405, "method_not_allowed"),
    ],
)
async def test_paths_that_are_not_there_have_the_shape(method: str, path: str, status: int, code: str) -> None:
    async with serve() as served:
        error = check_error(await served.client.request(method, path), status, code)
    assert error["type"] == "invalid_request_error"


async def test_another_model_is_not_found() -> None:
    async with serve() as served:
        error = check_error(await served.client.post(PATH, json=chat_body(model="gpt-5")), 404, "model_not_found")
    assert error["param"] == "model"
    assert "'rstar'" in error["message"]


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "malformed_body"),
        (b"[]", JSON, 400, "invalid_value"),
        (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b" " * 101, JSON, 413, "body_too_large"),
    ],
)
async def test_bodies_that_cannot_be_read_have_the_shape(
    content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with serve(settings=Settings(max_body_bytes=100)) as served:
        check_error(await served.client.post(PATH, content=content, headers=headers), status, code)


@pytest.mark.parametrize("path", [PATH, "/v1/models", "/v1/nothing"])
async def test_a_request_without_a_key_is_unauthorized(path: str) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        response = await served.client.get(path)
    assert check_error(response, 401, "invalid_api_key")["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


async def _refused_beside_another(settings: Settings) -> httpx.Response:
    """The response to a second request while a first one searches."""
    policy = GatedPolicy()
    parts = opening(fake_parts(policy=policy))
    async with serve(parts, settings=settings) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        first = group.create_task(served.client.post(PATH, json=chat_body()))
        await policy.entered.wait()
        refused = await served.client.post(PATH, json=chat_body("2+3"))
        policy.gate.set()
    assert first.result().status_code == 200
    return refused


async def test_a_client_over_its_quota_is_told_when_to_retry() -> None:
    response = await _refused_beside_another(Settings(max_searches_per_key=1))
    assert check_error(response, 429, "rate_limit_exceeded")["type"] == "rate_limit_error"
    assert response.headers["retry-after"].isdecimal()


async def test_a_busy_server_says_when_to_retry() -> None:
    response = await _refused_beside_another(Settings(concurrent_searches=1, queued_searches=0))
    assert check_error(response, 503, "overloaded")["type"] == "server_error"
    assert response.headers["retry-after"].isdecimal()


async def test_a_server_that_is_not_ready_or_stops_says_so() -> None:
    faults = {Part.PPM: "its engine failed"}
    async with serve(opening(fake_parts(faults=faults))) as served:
        check_error(await served.client.post(PATH, json=chat_body()), 503, "not_ready")
        served.solver.is_draining = True
        response = await served.client.post(PATH, json=chat_body())
    check_error(response, 503, "stopping")
    assert response.headers["retry-after"].isdecimal()


async def _failed(served: Served, **fields: object) -> httpx.Response:
    return await served.client.post(PATH, json=chat_body("no sum", **fields))


async def test_a_failed_search_is_a_server_error() -> None:
    async with serve() as served:
        check_error(await _failed(served), 500, "search_failed")


async def test_an_error_ends_a_stream_without_done() -> None:
    async with serve() as served:
        response = await _failed(served, stream=True)
    *_, last = response.text.rstrip().split("\n\n")
    assert response.status_code == 200
    assert last.startswith('data: {"error": {"message": ')
    assert "[DONE]" not in response.text


async def test_a_refused_preflight_has_the_shape() -> None:
    headers = {"origin": "https://evil.example.org", "access-control-request-method": "POST"}
    async with serve(settings=Settings(cors_origins=("https://app.example.org",))) as served:
        response = await served.client.options(PATH, headers=headers)
    check_error(response, 403, "origin_refused")


async def test_errors_elsewhere_stay_problem_documents() -> None:
    async with serve() as served:
        check_problem(await served.client.post("/solve", json={}), 422, "invalid-request")
        check_problem(await served.client.get("/v2"), 404, "not-found")
