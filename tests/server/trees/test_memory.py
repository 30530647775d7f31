"""Memory: the bound in bytes, what goes first, and the time to live."""

from server.trees.entries import Fingerprint
from server.trees.memory import ENTRY_BYTES, MemoryTreeStore

SIZE = 1000 - ENTRY_BYTES
"""Of a value whose entry counts as 1,000 bytes."""


class Clock:
    """Stands still unless it is moved."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def key(number: int) -> Fingerprint:
    return Fingerprint(f"{number:064x}")


async def put(store: MemoryTreeStore, *numbers: int, size: int = SIZE) -> None:
    for number in numbers:
        async with store.lease(key(number)) as lease:
            assert lease is not None
            await store.commit(lease, b"x" * size)


async def held(store: MemoryTreeStore, *numbers: int) -> list[int]:
    return [number for number in numbers if await store.load(key(number)) is not None]


async def test_the_tree_used_least_recently_goes_first() -> None:
    store = MemoryTreeStore(max_bytes=3000, ttl_s=60)
    await put(store, 1, 2, 3)
    assert await held(store, 1) == [1]
    await put(store, 4)
    assert await held(store, 1, 2, 3, 4) == [1, 3, 4]
    assert (store.size, store.trees) == (3000, 3)


async def test_a_large_tree_takes_the_place_of_several() -> None:
    store = MemoryTreeStore(max_bytes=3000, ttl_s=60)
    await put(store, 1, 2, 3)
    await put(store, 4, size=SIZE + 1000)
    assert await held(store, 1, 2, 3, 4) == [3, 4]
    assert store.size == 3000


async def test_a_tree_above_the_bound_is_not_held_nor_its_old_version() -> None:
    store = MemoryTreeStore(max_bytes=1000, ttl_s=60)
    await put(store, 1)
    await put(store, 1, size=SIZE + 1)
    assert await held(store, 1) == []
    assert (store.size, store.trees) == (0, 0)


async def test_a_new_version_replaces_the_old_one() -> None:
    store = MemoryTreeStore(max_bytes=3000, ttl_s=60)
    await put(store, 1, 1, 1, 2)
    assert (store.size, store.trees) == (2000, 2)


async def test_a_tree_is_forgotten_some_time_after_its_last_commit() -> None:
    clock = Clock()
    store = MemoryTreeStore(max_bytes=3000, ttl_s=60, now=clock)
    await put(store, 1, 2)
    clock.now_s += 59
    assert await held(store, 1, 2) == [1, 2]
    await put(store, 1)
    clock.now_s += 1
    assert await held(store, 1, 2) == [1]
    assert store.size == 1000
    clock.now_s += 59
    async with store.lease(key(1)) as lease:
        assert lease is not None
        assert lease.version == 0
