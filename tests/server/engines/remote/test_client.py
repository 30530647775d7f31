"""The client: retries, time limits, cancellation and error messages, against real sockets."""

import asyncio
import dataclasses
import random
import socket
from datetime import UTC, datetime

import pytest

from server.engines.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.remote.client import (
    RemoteAddress,
    RemoteClient,
    RemoteLimits,
    Retries,
    is_worth_retrying,
    retry_after_s,
)
from tests.server.engines.remote.stub_server import Answer, Drop, Hang, StubServer

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def client(stub: StubServer, limits: RemoteLimits) -> RemoteClient:
    return RemoteClient(RemoteAddress(url=stub.url, api_key="secret"), limits=limits, rng=random.Random(1))


async def test_the_api_key_is_sent_in_the_header_and_not_shown(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {"b": 2}) == {"a": 1}
    assert stub.asked[0].headers["authorization"] == "Bearer secret"
    assert stub.asked[0].body == {"b": 2}
    assert "secret" not in repr(RemoteAddress(url=stub.url, api_key="secret"))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_temporary_failure_is_retried(stub: StubServer, client: RemoteClient, status: int) -> None:
    stub.script["/x"] = [Answer(status=status, content={}), Answer(status=status, content={}), Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {}) == {"a": 1}
    assert len(stub.asked) == 3


async def test_a_broken_connection_is_retried(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Drop(), Drop(), Answer(content={"a": 1})]
    async with client:
        assert await client.post("/x", {}) == {"a": 1}
    assert len(stub.asked) == 3


async def test_attempts_are_bounded(stub: StubServer, client: RemoteClient) -> None:
    error = {"error": {"message": "engine is overloaded", "type": "ServiceUnavailableError"}}
    stub.script["/x"] = [Answer(status=503, content=error)]
    async with client:
        with pytest.raises(RemoteUnavailable, match=rf"{stub.url}/x answered HTTP 503: engine is overloaded, after 4"):
            await client.post("/x", {})
    assert len(stub.asked) == 4


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
async def test_a_refusal_is_not_retried_and_is_quoted(
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


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_cannot_be_decoded_is_a_mismatch(stub: StubServer, client: RemoteClient, coding: str) -> None:
    stub.script["/x"] = [Answer(content=b"\x00 not compressed", headers={"Content-Encoding": coding})]
    async with client:
        with pytest.raises(RemoteMismatch, match=rf"{stub.url}/x answers with a body that cannot be decoded"):
            await client.post("/x", {})
    assert len(stub.asked) == 1


async def test_a_server_that_is_not_there_is_named(limits: RemoteLimits) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with RemoteClient(RemoteAddress(url=url), limits=limits) as client:
            with pytest.raises(RemoteUnavailable, match=f"{url}/x cannot be reached .* after 4 attempts; check that"):
                await client.post("/x", {})


async def test_a_slow_server_is_not_asked_again(stub: StubServer, limits: RemoteLimits) -> None:
    stub.script["/x"] = [Hang()]
    short = dataclasses.replace(limits, answer_s=0.5)
    async with RemoteClient(RemoteAddress(url=stub.url), limits=short) as client:
        with pytest.raises(RemoteUnavailable, match=r"did not answer within 0.5 s.*raise RSTAR_REMOTE_TIMEOUT_S"):
            await client.post("/x", {})
        await stub.until_left()
    assert len(stub.asked) == 1


async def test_a_cancelled_call_closes_its_connection(stub: StubServer, client: RemoteClient) -> None:
    stub.script["/x"] = [Hang()]
    async with client, asyncio.TaskGroup() as group:
        call = group.create_task(client.post("/x", {}))
        await stub.until_asked()
        call.cancel()
        await stub.until_left()
    assert call.cancelled()


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


def test_delays_double_up_to_a_limit_with_jitter() -> None:
    retries = Retries(attempts=6, first_delay_s=1.0, max_delay_s=6.0)
    rng = random.Random(1)
    for attempt, full_s in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 6.0), (5, 6.0)):
        delays = [retries.delay_s(attempt, rng=rng) or 0.0 for _ in range(200)]
        assert full_s / 2 <= min(delays) < 0.6 * full_s
        assert 0.9 * full_s < max(delays) <= full_s
    assert retries.delay_s(6, rng=rng) is None


def test_a_server_may_ask_for_more_time_but_not_for_any_amount() -> None:
    retries = Retries(first_delay_s=1.0, max_retry_after_s=20.0)
    rng = random.Random(1)
    assert retries.delay_s(1, rng=rng, retry_after_s=7.5) == 7.5
    assert 0.5 <= (retries.delay_s(1, rng=rng, retry_after_s=0.0) or 0.0) <= 1.0
    assert retries.delay_s(1, rng=rng, retry_after_s=20.5) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("3", 3.0),
        ("Wed, 04 Mar 2026 12:00:09 GMT", 9.0),
        ("Wed, 04 Mar 2026 12:00:09 -0000", 9.0),
        ("Wed, 04 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, now=NOW) == expected


def test_only_temporary_statuses_are_worth_retrying() -> None:
    statuses = (200, 302, 400, 401, 404, 422, 429, 500, 501, 502, 503, 504)
    assert [status for status in statuses if is_worth_retrying(status)] == [429, 500, 502, 503, 504]
