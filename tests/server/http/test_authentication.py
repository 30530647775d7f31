"""Authentication: who gets in with which key, and who a client is taken for."""

from typing import cast

import pytest
from pydantic import SecretStr

from server.http.api_keys import read_api_keys
from server.http.asgi import Message, Receive, Send
from server.http.authentication import OPEN_PATHS, Authentication
from server.parts.fakes import serve
from server.settings.settings import Settings
from server.solving.refusals import Refusal

ALICE = "alice-0123456789"
BOB = "bob-0123456789ab"
KEYED = Settings(api_keys=SecretStr(f"alice={ALICE},{BOB}"))
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
async def test_without_a_key_there_is_a_problem_document_and_a_challenge(headers: dict[str, str], reason: str) -> None:
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
async def test_paths_behind_the_key_do_not_even_say_whether_they_exist(path: str) -> None:
    async with serve(settings=KEYED) as served:
        assert (await served.client.post(path)).status_code == 401


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_probes_and_the_interface_are_open(path: str) -> None:
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
        (None, ALICE, "/solve", "10.0.0.1"),
    ],
)
async def test_a_client_is_the_name_of_its_key_or_else_its_address(
    keys: str | None, shown: str, path: str, client: str
) -> None:
    seen: list[object] = []

    async def inner(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(cast("dict[str, object]", scope["state"])["client"])

    async def refuse(refusal: Refusal, scope: Message, receive: Receive, send: Send) -> None:
        raise refusal

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    layer = Authentication(inner, None if keys is None else read_api_keys(keys), refuse=refuse)
    headers = [(b"x-api-key", shown.encode())]
    await layer({"type": "http", "path": path, "headers": headers, "client": ("10.0.0.1", 5)}, receive, send)
    assert seen == [client]
