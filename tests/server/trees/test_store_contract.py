"""The contract of `TreeStore`, for every store of trees."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from server.trees.entries import Fingerprint
from server.trees.memory import MemoryTreeStore
from server.trees.redis import RedisTreeStore
from server.trees.store import LeaseLost, StoredTree, TreeStore
from tests.server.trees.redis_server import SERVERS, TIMEOUT_S, RedisServer

KEY, OTHER = Fingerprint("1" * 64), Fingerprint("2" * 64)
TTL_S = 60.0


@pytest.fixture(params=["memory", *SERVERS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[TreeStore]:
    if request.param == "memory":
        yield MemoryTreeStore(max_bytes=1 << 20, ttl_s=TTL_S)
        return
    with RedisServer(request.param, tmp_path) as server:
        redis = RedisTreeStore(server.url, ttl_s=TTL_S, timeout_s=TIMEOUT_S)
        async with redis.running():
            yield redis


async def test_a_store_begins_empty(store: TreeStore) -> None:
    assert await store.load(KEY) is None
    async with store.lease(KEY) as lease:
        assert lease is not None
        assert lease.version == 0


async def test_the_last_commit_is_loaded_with_its_version(store: TreeStore) -> None:
    async with store.lease(KEY) as lease:
        assert lease is not None
        await store.commit(lease, b"first")
        assert (await store.load(KEY), lease.version) == (StoredTree(value=b"first", version=1), 1)
        await store.commit(lease, b"\x00\xffsecond")
    assert await store.load(KEY) == StoredTree(value=b"\x00\xffsecond", version=2)
    assert await store.load(OTHER) is None


async def test_the_next_lease_knows_the_version_and_has_a_higher_fence(store: TreeStore) -> None:
    async with store.lease(KEY) as first:
        assert first is not None
        await store.commit(first, b"first")
    async with store.lease(KEY) as second:
        assert second is not None
        assert second.version == 1
        assert second.fence > first.fence
        await store.commit(second, b"second")
    assert await store.load(KEY) == StoredTree(value=b"second", version=2)


async def test_only_one_lease_of_a_key_is_out_at_a_time(store: TreeStore) -> None:
    async with store.lease(KEY) as first, store.lease(KEY) as second, store.lease(OTHER) as other:
        assert first is not None
        assert second is None
        assert other is not None
    async with store.lease(KEY) as third:
        assert third is not None


async def test_a_lease_that_was_not_given_is_not_given_back(store: TreeStore) -> None:
    async with store.lease(KEY) as first:
        async with store.lease(KEY) as second:
            assert second is None
        assert first is not None
        await store.commit(first, b"value")


async def test_of_many_who_ask_at_once_one_gets_the_lease(store: TreeStore) -> None:
    answers: asyncio.Queue[bool] = asyncio.Queue()
    done = asyncio.Event()

    async def ask() -> None:
        async with store.lease(KEY) as lease:
            answers.put_nowait(lease is not None)
            await done.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(ask())
        assert sum([await answers.get() for _ in range(10)]) == 1
        done.set()


async def test_a_commit_with_a_stale_fence_is_refused(store: TreeStore) -> None:
    async with store.lease(KEY) as stale:
        assert stale is not None
        await store.commit(stale, b"first")
    with pytest.raises(LeaseLost):
        await store.commit(stale, b"after it was given back")
    async with store.lease(KEY) as current:
        assert current is not None
        with pytest.raises(LeaseLost):
            await store.commit(stale, b"while another has it")
        await store.commit(current, b"second")
    assert await store.load(KEY) == StoredTree(value=b"second", version=2)


async def test_a_lease_is_given_back_when_its_holder_is_cancelled(store: TreeStore) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with store.lease(KEY):
            entered.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        holding = group.create_task(hold())
        await entered.wait()
        holding.cancel()
    async with store.lease(KEY) as lease:
        assert lease is not None


async def test_a_long_value_comes_back_whole(store: TreeStore) -> None:
    value = bytes(range(256)) * 2000
    async with store.lease(KEY) as lease:
        assert lease is not None
        await store.commit(lease, value)
    stored = await store.load(KEY)
    assert stored is not None
    assert stored.value == value


async def test_a_commit_and_a_lease_given_back_are_changes(store: TreeStore) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        await store.changed(KEY, since=0)
        async with store.lease(KEY) as lease:
            assert lease is not None
            waiting = group.create_task(store.changed(KEY, since=0))
            later = group.create_task(store.changed(KEY, since=1))
            await asyncio.sleep(0)
            assert not waiting.done()
            await store.commit(lease, b"first")
            await waiting
            await store.changed(KEY, since=0)
            assert not later.done()
        await later


async def test_a_failing_holder_gives_its_lease_back(store: TreeStore) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.lease(KEY):
            raise ZeroDivisionError
    async with store.lease(KEY) as lease:
        assert lease is not None
        assert not lease.is_takeover


async def test_a_store_that_works_has_no_fault(store: TreeStore) -> None:
    assert await store.load(KEY) is None
    assert store.fault is None
