"""The client: retries, time limits, cancellation and errors in words, against real sockets."""

import asyncio
import dataclasses
import random
import socket

import pytest

from server.engines.remote.client import RemoteAddress, RemoteClient, RemoteLimits
from server.engines.remote.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.remote.retries import Retries
from tests.server.engines.remote.stub_server import Answer, Drop, Hang, StubServer


@pytest.fixture
def client(stub: StubServer, limits: RemoteLimits) -> RemoteClient:
    return RemoteClient(RemoteAddress(url=stub.url, api_key="secret"), limits=limits, rng=random.Random(1))


async def test_the_api_key_travels_in_the_header_and_shows_nowhere_else(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {"b": 2}) == {"a": 1}
    assert stub.asked[0].headers["authorization"] == "Bearer secret"
    assert stub.asked[0].body == {"b": 2}
    assert "secret" not in repr(RemoteAddress(url=stub.url, api_key="secret"))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_asked_again(stub: StubServer, client: RemoteClient, status: int) -> None:
    stub.script["/x"] = [Answer(status=status, content={}), Answer(status=status, content={}), Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {}) == {"a": 1}
    assert (client.traffic.requests, client.traffic.retries, client.traffic.failures) == (3, 2, 0)


async def test_a_connection_that_breaks_is_made_again(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Drop(), Drop(), Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {}) == {"a": 1}
    assert client.traffic.retries == 2


async def test_attempts_are_bounded(stub: StubServer, client: RemoteClient) -> None:
    error = {"error": {"message": "engine is overloaded", "type": "ServiceUnavailableError"}}
    stub.script["/x"] = [Answer(status=503, content=error)]
    async with client:
        with pytest.raises(RemoteUnavailable, match=rf"{stub.url}/x answered HTTP 503: engine is overloaded, after 4"):
            await client.post("/x", {})
    assert len(stub.asked) == 4
    assert client.traffic.failures == 1


async def test_the_server_says_how_long_to_wait(stub: StubServer, limits: RemoteLimits) -> None:
    waited: list[float] = []

    async def note(delay_s: float) -> None:
        waited.append(delay_s)

    stub.script["/x"] = [Answer(status=429, content={}, headers={"Retry-After": "7"}), Answer(content={})]
    stub.script["/y"] = [Answer(status=429, content={}, headers={"Retry-After": "3600"})]
    async with RemoteClient(RemoteAddress(url=stub.url), limits=limits, sleep=note) as client:
        await client.post("/x", {})
        assert waited == [7.0]
        with pytest.raises(RemoteUnavailable, match="asks to wait 3600 s, after 1 attempts"):
            await client.post("/y", {})


@pytest.mark.parametrize(
    ("status", "content", "said", "remedy"),
    [
        (400, {"error": {"message": "n must be 1"}}, "n must be 1", "do not agree"),
        (401, {"error": "Unauthorized"}, "Unauthorized", "set the API key"),
        (404, {"detail": "Not Found"}, "Not Found", "check the address"),
        (422, b"plain words", "plain words", "do not agree"),
        (501, {"message": "no such thing"}, "no such thing", "vLLM server of release"),
        (307, b"", "", "redirects to"),
    ],
)
async def test_what_is_wrong_is_refused_at_once_and_quoted(
    stub: StubServer, client: RemoteClient, status: int, content: object, said: str, remedy: str
) -> None:
    stub.script["/x"] = [Answer(status=status, content=content)]
    async with client:
        with pytest.raises(RemoteRefused, match=rf"{stub.url}/x answered HTTP {status}: {said}.*; .*{remedy}"):
            await client.post("/x", {})
    assert len(stub.asked) == 1


@pytest.mark.parametrize("content", [b"<html>hello</html>", b"[1]", b"3"])
async def test_an_answer_that_is_no_json_object_is_a_mismatch(
    stub: StubServer, client: RemoteClient, content: object
) -> None:
    stub.script["/x"] = [Answer(content=content)]
    async with client:
        with pytest.raises(RemoteMismatch, match="is it a vLLM server"):
            await client.post("/x", {})


async def test_a_server_that_is_not_there_is_named(limits: RemoteLimits) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with RemoteClient(RemoteAddress(url=url), limits=limits) as client:
            with pytest.raises(RemoteUnavailable, match=f"{url}/x cannot be reached .* after 4 attempts; check that"):
                await client.post("/x", {})


async def test_a_server_that_takes_too_long_is_not_asked_again(stub: StubServer, limits: RemoteLimits) -> None:
    stub.script["/x"] = [Hang()]
    short = dataclasses.replace(limits, answer_s=0.05)
    async with RemoteClient(RemoteAddress(url=stub.url), limits=short) as client:
        with pytest.raises(RemoteUnavailable, match=r"did not answer within 0.05 s.*raise RSTAR_REMOTE_TIMEOUT_S"):
            await client.post("/x", {})
        await stub.left.wait()
    assert len(stub.asked) == 1


async def test_a_cancelled_call_closes_its_connection(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Hang()]
    async with client, asyncio.TaskGroup() as group:
        call = group.create_task(client.post("/x", {}))
        await stub.arrived.wait()
        call.cancel()
        await stub.left.wait()


async def test_a_call_can_be_cancelled_while_it_waits_to_try_again(stub: StubServer, limits: RemoteLimits) -> None:
    waiting = asyncio.Event()

    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    stub.script["/x"] = [Drop()]
    async with (
        RemoteClient(RemoteAddress(url=stub.url), limits=limits, sleep=wait_for_ever) as client,
        asyncio.TaskGroup() as group,
    ):
        call = group.create_task(client.post("/x", {}))
        await waiting.wait()
        call.cancel()
    assert call.cancelled()
    assert len(stub.asked) == 1


async def test_connections_are_used_again(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Answer(content={})]
    async with client:
        for _ in range(5):
            await client.post("/x", {})
    assert stub.connections == 1


def test_by_default_a_server_may_be_gone_for_seconds() -> None:
    retries = RemoteLimits().retries
    delays = [retries.delay_s(attempt, rng=random.Random(attempt)) for attempt in range(1, retries.attempts + 1)]
    assert delays[-1] is None
    assert 3.75 <= sum(delay for delay in delays if delay is not None) <= 7.5
    assert retries == Retries()
