"""Security headers on every response, and CORS where the operator has turned it on."""

import pytest
from pydantic import SecretStr

from search import Candidate, Path
from server.http.security_headers import SECURITY_HEADERS
from server.parts.fakes import fake_parts, opening, serve
from server.settings.settings import Settings

ORIGIN = "https://app.example.org"
KEY = "0123456789abcdef"
KEYED = Settings(cors_origins=(ORIGIN,), api_keys=SecretStr(KEY))
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-request-id",
}


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
async def test_every_response_has_them_errors_included(method: str, path: str, status: int) -> None:
    async with serve() as served:
        response = await served.client.request(method, path)
    assert response.status_code == status
    for name, value in SECURITY_HEADERS:
        assert response.headers.get_list(name.decode()) == [value.decode()]


async def test_an_answer_is_kept_by_nobody_streamed_or_not() -> None:
    async with serve() as served:
        for stream in (False, True):
            body = {"problem": "1+2", "trajectories": 1, "stream": stream}
            response = await served.client.post("/solve", json=body)
            assert (response.status_code, response.headers["x-content-type-options"]) == (200, "nosniff")
            assert "no-store" in response.headers["cache-control"]


async def test_the_answer_to_a_failure_of_the_server_itself_has_them_too_and_one_request_id() -> None:
    class Broken:
        async def propose(self, path: Path, n: int, *, seed: int) -> list[Candidate]:
            raise AssertionError("never asked")

    def prompt_tokens(problem: str) -> int:
        raise ZeroDivisionError(problem)

    parts = fake_parts(policy=Broken())
    object.__setattr__(parts, "prompt_tokens", prompt_tokens)
    async with serve(opening(parts)) as served:
        response = await served.client.post("/solve", json={"problem": "1+2"}, headers={"x-request-id": "mine"})
    assert response.status_code == 500
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.headers.get_list("x-frame-options") == ["DENY"]
    assert response.json()["request_id"] == "mine"


async def test_no_origin_is_welcome_by_default() -> None:
    async with serve() as served:
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
        preflight = await served.client.options("/solve", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in response.headers
    assert (preflight.status_code, preflight.headers.get("access-control-allow-origin")) == (405, None)


async def test_a_preflight_passes_without_a_key() -> None:
    async with serve(settings=KEYED) as served:
        response = await served.client.options("/solve", headers=PREFLIGHT)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_page_of_an_allowed_origin_reads_answers_streams_and_refusals() -> None:
    async with serve(settings=KEYED) as served:
        for headers, stream, status in (
            ({"x-api-key": KEY}, False, 200),
            ({"x-api-key": KEY}, True, 200),
            ({}, True, 401),
        ):
            body = {"problem": "1+2", "trajectories": 1, "stream": stream}
            response = await served.client.post("/solve", json=body, headers={"origin": ORIGIN, **headers})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, ORIGIN)
            assert "x-request-id" in response.headers["access-control-expose-headers"].lower()
            assert "access-control-allow-credentials" not in response.headers


async def test_other_origins_are_not_let_in() -> None:
    async with serve(settings=KEYED) as served:
        preflight = await served.client.options("/solve", headers={**PREFLIGHT, "origin": "https://evil.example.org"})
        response = await served.client.get("/healthz", headers={"origin": "https://evil.example.org"})
    problem = preflight.json()
    assert (preflight.status_code, preflight.headers["content-type"]) == (403, "application/problem+json")
    assert (problem["type"], problem["detail"]) == ("urn:rstar:problem:origin-refused", "Disallowed CORS origin")
    assert problem["request_id"] == preflight.headers["x-request-id"]
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "asked", [{"access-control-request-method": "DELETE"}, {"access-control-request-headers": "last-event-id"}]
)
async def test_a_page_may_not_ask_for_what_no_route_takes(asked: dict[str, str]) -> None:
    async with serve(settings=KEYED) as served:
        response = await served.client.options("/solve", headers={**PREFLIGHT, **asked})
    assert (response.status_code, response.headers["content-type"]) == (403, "application/problem+json")


async def test_a_page_is_told_what_it_may_send_and_read() -> None:
    async with serve(settings=KEYED) as served:
        preflight = await served.client.options("/solve", headers=PREFLIGHT)
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
        paths = (await served.client.get("/openapi.json")).json()["paths"].values()
    methods = {method.upper() for path in paths for method in path}
    assert set(preflight.headers["access-control-allow-methods"].split(", ")) == methods == {"GET", "POST"}
    assert {"x-api-key", "traceparent", "tracestate"} <= set(
        preflight.headers["access-control-allow-headers"].lower().split(", ")
    )
    assert response.headers["access-control-expose-headers"] == "retry-after, x-request-id"


async def test_a_star_lets_every_origin_in() -> None:
    async with serve(settings=Settings(cors_origins=("*",))) as served:
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == "*"
