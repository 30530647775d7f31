"""Access: accepted keys, the name of a client, and the rights of pages of other origins."""

import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from server.http.access import OPEN_PATHS, Authentication
from server.http.layers import client_of
from server.settings.api_keys import read_api_keys
from server.settings.settings import Settings
from tests.server.serving import serve

ALICE = "alice-0123456789"
BOB = "bob-0123456789ab"
KEYED = Settings(api_keys=SecretStr(f"alice={ALICE},{BOB}"))
ORIGIN = "https://app.example.org"
OPEN_TO_PAGES = Settings(cors_origins=(ORIGIN,), api_keys=SecretStr(f"alice={ALICE}"))
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-request-id",
}
BODY = {"problem": "1+2", "trajectories": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ALICE}"},
        {"authorization": f"bearer  {BOB} "},
        {"X-API-Key": ALICE},
        {"Authorization": "Basic eHh4", "X-API-Key": BOB},
        {"Authorization": "Bearer of-some-proxy-in-front", "X-API-Key": BOB},
    ],
)
async def test_a_key_opens_the_server_as_bearer_token_or_header(headers: dict[str, str]) -> None:
    async with serve(settings=KEYED) as served:
        assert (await served.client.post("/solve", json=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no API key was sent"),
        ({"Authorization": f"Basic {ALICE}"}, "no API key was sent"),
        ({"Authorization": f"Bearer {ALICE}x"}, "the API key is not one of this server's"),
        ({"X-API-Key": ""}, "the API key is not one of this server's"),
        ({"X-API-Key": f"alice={ALICE}"}, "the API key is not one of this server's"),
    ],
)
async def test_a_request_without_a_right_key_gets_a_problem_and_401(headers: dict[str, str], reason: str) -> None:
    async with serve(settings=KEYED) as served:
        response = await served.client.post("/solve", json=BODY, headers={**headers, "x-request-id": "mine"})
    problem = response.json()
    assert (response.status_code, problem["status"]) == (401, 401)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"] == problem["request_id"] == "mine"
    assert problem["type"] == "urn:rstar:problem:unauthorized"
    assert problem["detail"].startswith(reason)
    assert ALICE not in response.text


@pytest.mark.parametrize("path", ["/nothing", "/solve/some-id/cancel"])
async def test_without_a_key_paths_do_not_say_whether_they_exist(path: str) -> None:
    async with serve(settings=KEYED) as served:
        assert (await served.client.post(path)).status_code == 401


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_probes_and_the_interface_need_no_key(path: str) -> None:
    async with serve(settings=KEYED) as served:
        assert (await served.client.get(path)).status_code == 200


async def test_without_keys_everybody_may_search() -> None:
    async with serve() as served:
        headers = {"Authorization": "Bearer anything"}
        assert (await served.client.post("/solve", json=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("keys", "shown", "path", "client"),
    [
        (f"alice={ALICE},{BOB}", ALICE, "/solve", "alice"),
        (f"alice={ALICE},{BOB}", BOB, "/solve", "key-2"),
        (f"alice={ALICE},{BOB}", ALICE, "/metrics", "alice"),
        (f"alice={ALICE},{BOB}", "none of them", "/metrics", "10.0.0.1"),
    ],
)
async def test_a_client_is_the_name_of_its_key_or_its_address(keys: str, shown: str, path: str, client: str) -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(client_of(scope))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    layer = Authentication(inner, read_api_keys(keys))
    headers = [(b"x-api-key", shown.encode())]
    await layer({"type": "http", "path": path, "headers": headers, "client": ("10.0.0.1", 5)}, receive, send)
    assert seen == [client]


async def test_no_origin_is_allowed_by_default() -> None:
    async with serve() as served:
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
        preflight = await served.client.options("/solve", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in response.headers
    assert (preflight.status_code, preflight.headers.get("access-control-allow-origin")) == (405, None)


async def test_a_preflight_passes_without_a_key() -> None:
    async with serve(settings=OPEN_TO_PAGES) as served:
        response = await served.client.options("/solve", headers=PREFLIGHT)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_page_of_an_allowed_origin_reads_every_response() -> None:
    async with serve(settings=OPEN_TO_PAGES) as served:
        for headers, stream, status in (
            ({"x-api-key": ALICE}, False, 200),
            ({"x-api-key": ALICE}, True, 200),
            ({}, True, 401),
        ):
            body = {"problem": "1+2", "trajectories": 1, "stream": stream}
            response = await served.client.post("/solve", json=body, headers={"origin": ORIGIN, **headers})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, ORIGIN)
            assert "x-request-id" in response.headers["access-control-expose-headers"].lower()
            assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_of_another_origin_is_refused() -> None:
    async with serve(settings=OPEN_TO_PAGES) as served:
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
async def test_a_preflight_for_what_no_route_takes_is_refused(asked: dict[str, str]) -> None:
    async with serve(settings=OPEN_TO_PAGES) as served:
        response = await served.client.options("/solve", headers={**PREFLIGHT, **asked})
    assert (response.status_code, response.headers["content-type"]) == (403, "application/problem+json")


async def test_a_preflight_names_what_a_page_may_send_and_read() -> None:
    async with serve(settings=OPEN_TO_PAGES) as served:
        preflight = await served.client.options("/solve", headers=PREFLIGHT)
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
        paths = (await served.client.get("/openapi.json")).json()["paths"].values()
    methods = {method.upper() for path in paths for method in path}
    assert set(preflight.headers["access-control-allow-methods"].split(", ")) == methods == {"GET", "POST"}
    assert {"x-api-key", "traceparent", "tracestate"} <= set(
        preflight.headers["access-control-allow-headers"].lower().split(", ")
    )
    assert response.headers["access-control-expose-headers"] == "retry-after, x-request-id"


async def test_a_star_allows_every_origin() -> None:
    async with serve(settings=Settings(cors_origins=("*",))) as served:
        response = await served.client.get("/healthz", headers={"origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == "*"
