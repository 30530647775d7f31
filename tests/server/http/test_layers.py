"""Layers: request ids, security headers on every response, one log entry and one span for each request."""

import dataclasses
import logging

import httpx
import pytest
from pydantic import SecretStr

from server.app import create_app
from server.http.layers import SECURITY_HEADERS, client_of
from server.parts.fakes import fake_parts, opening
from server.parts.serving import ServingParts
from server.settings.settings import Settings
from tests.server.observability.recorded_spans import RecordedSpans, attributes_of, id_of, parent_of
from tests.server.serving import serve

KEY = "0123456789abcdef"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "123456789+987654321"


@pytest.fixture
def entries(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="server")
    return caplog


def _broken_parts() -> ServingParts:
    """Parts that fail before a search begins."""

    def prompt_tokens(problem: str) -> int:
        raise ZeroDivisionError(problem)

    return dataclasses.replace(fake_parts(), prompt_tokens=prompt_tokens)


def _access(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "server.access_log"]


async def test_a_request_is_logged_once_with_client_and_duration(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(f"alice={KEY}"))) as served:
        body = {"problem": "1+2", "trajectories": 1, "stream": True}
        await served.client.post("/solve?key=1", json=body, headers={"x-api-key": KEY})
    (record,) = _access(entries)
    assert record.levelno == logging.INFO
    fields = vars(record)
    logged = [fields[name] for name in ("method", "path", "route", "status", "client")]
    assert logged == ["POST", "/solve", "/solve", 200, "alice"]
    assert 0 <= fields["duration_s"] < 600
    assert record.getMessage().startswith("POST /solve 200 ")


async def test_the_path_is_logged_beside_its_template(entries: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        await served.client.post("/solve/some-search/cancel")
        await served.client.get("/" + "n" * 500)
    cancelled, unknown = (vars(record) for record in _access(entries))
    assert (cancelled["path"], cancelled["route"]) == ("/solve/some-search/cancel", "/solve/{search_id}/cancel")
    assert (len(unknown["path"]), unknown["route"], unknown["status"]) == (200, None, 404)


async def test_a_client_without_a_key_is_logged_by_its_address(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        await served.client.post("/solve")
    (record,) = _access(entries)
    assert (vars(record)["status"], vars(record)["client"]) == (401, "127.0.0.1")


async def test_a_failure_of_the_server_is_logged_as_500(entries: pytest.LogCaptureFixture) -> None:
    async with serve(opening(_broken_parts())) as served:
        await served.client.post("/solve", json={"problem": "1+2"})
    assert [vars(record)["status"] for record in _access(entries)] == [500]


async def test_probes_are_logged_at_debug_unless_they_fail(entries: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        for path in ("/healthz", "/readyz", "/metrics"):
            await served.client.get(path)
        await served.client.post("/healthz")
    assert [record.levelno for record in _access(entries)] == [logging.DEBUG] * 3 + [logging.INFO]


async def test_the_access_log_can_be_turned_off(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(access_log=False)) as served:
        await served.client.get("/version")
    assert _access(entries) == []


async def test_no_problem_key_or_query_is_logged_above_debug(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        for body in ({"problem": SECRET, "trajectories": 1}, {"problem": SECRET, "depth": SECRET}):
            await served.client.post(f"/solve?q={SECRET}", json=body, headers={"authorization": f"Bearer {KEY}"})
        await served.client.post("/solve", content=SECRET, headers={"authorization": "Bearer wrong-but-private"})
    logged = " ".join(str(vars(record)) for record in entries.records if record.levelno > logging.DEBUG)
    assert logged
    for private in (SECRET, "123456789", KEY, "wrong-but-private"):
        assert private not in logged


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("abc-123_x.y:z", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("-a", False), ("", False)],
)
async def test_a_well_formed_request_id_is_echoed(given: str, *, is_kept: bool) -> None:
    async with serve() as served:
        for path in ("/healthz", "/nope"):
            response = await served.client.get(path, headers={"x-request-id": given})
            assert (response.headers["x-request-id"] == given) is is_kept
        solved = await served.client.post("/solve", json={"problem": "1+1"}, headers={"x-request-id": given})
    assert solved.json()["id"].startswith(solved.headers["x-request-id"] + "-")


def test_a_connection_without_an_address_has_an_unknown_client() -> None:
    assert client_of({"type": "http", "client": None}) == "unknown"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/openapi.json", 200),
        ("POST", "/solve", 415),
        ("GET", "/solve", 405),
        ("GET", "/nothing", 404),
    ],
)
async def test_every_response_has_the_security_headers(method: str, path: str, status: int) -> None:
    async with serve() as served:
        response = await served.client.request(method, path)
    assert response.status_code == status
    for name, value in SECURITY_HEADERS.items():
        assert response.headers.get_list(name) == [value]


async def test_answers_and_streams_may_not_be_stored() -> None:
    async with serve() as served:
        for stream in (False, True):
            body = {"problem": "1+2", "trajectories": 1, "stream": stream}
            response = await served.client.post("/solve", json=body)
            assert (response.status_code, response.headers["x-content-type-options"]) == (200, "nosniff")
            assert "no-store" in response.headers["cache-control"]


async def test_an_internal_error_has_the_headers_and_one_request_id() -> None:
    async with serve(opening(_broken_parts())) as served:
        response = await served.client.post("/solve", json={"problem": "1+2"}, headers={"x-request-id": "mine"})
    assert response.status_code == 500
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.headers.get_list("x-frame-options") == ["DENY"]
    assert response.json()["request_id"] == "mine"


async def test_a_request_is_recorded_under_its_route() -> None:
    recorded = RecordedSpans()
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
    async with serve() as served:
        app = create_app(served.solver, Settings(), tracer=recorded.tracer)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fake") as client:
            await client.post("/solve/some-search/cancel", headers=headers)
            await client.get("/nothing")
            await client.get("/healthz")
    cancel, nothing = recorded.spans
    assert recorded.names == ["POST /solve/{search_id}/cancel", "GET"]
    assert cancel.parent is not None
    assert (cancel.kind.name, f"{cancel.parent.trace_id:032x}") == ("SERVER", TRACE)
    assert attributes_of(cancel) == {
        "http.request.method": "POST",
        "url.path": "/solve/some-search/cancel",
        "http.route": "/solve/{search_id}/cancel",
        "http.response.status_code": 404,
        "rstar.request_id": "mine",
    }
    assert attributes_of(nothing)["http.response.status_code"] == 404


async def test_a_search_is_recorded_below_its_request() -> None:
    recorded = RecordedSpans()
    async with serve() as served:
        app = create_app(served.solver, Settings(), tracer=recorded.tracer)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fake") as client:
            body = (await client.post("/solve", json={"problem": "1+2+3", "trajectories": 4})).json()
    request, queue, search, *calls = recorded.spans
    assert (request.name, queue.name, search.name) == ("POST /solve", "queue", "search")
    assert [parent_of(queue), parent_of(search)] == [id_of(request), id_of(request)]
    assert {parent_of(call) for call in calls} == {id_of(search)}
    assert {call.name for call in calls} == {"policy", "ppm", "sandbox"}
    assert attributes_of(search) == {
        "rstar.strategy": "mcts",
        "rstar.stop_reason": body["stop_reason"],
        "rstar.trajectories": body["usage"]["trajectories"],
    }
