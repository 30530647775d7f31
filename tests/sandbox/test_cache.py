"""Which live snapshots are evicted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import CacheLimits, SnapshotId
from sandbox.cache import Cache, Entry

MB = 1 << 20


def _add(
    cache: Cache,
    key: str,
    *,
    tree: str = "t",
    parent: str | None = None,
    own_mb: float = 1,
    grown_mb: float = 0,
    cost_s: float = 0.01,
) -> None:
    entry = Entry(
        tree=tree,
        parent=None if parent is None else SnapshotId(parent),
        own_bytes=int(own_mb * MB),
        grown_bytes=int(grown_mb * MB),
        cost_s=cost_s,
    )
    cache.add(SnapshotId(key), entry)


def _evict(cache: Cache, *, running_bytes: int = 0) -> list[str]:
    gone: list[str] = []
    while (key := cache.victim(running_bytes=running_bytes)) is not None:
        cache.remove(key)
        gone.append(key)
    return gone


def _keys(names: Iterable[str]) -> set[SnapshotId]:
    return {SnapshotId(name) for name in names}


def test_equal_snapshots_leave_in_the_order_of_their_last_use() -> None:
    cache = Cache(CacheLimits(overall=3))
    for key in "abc":
        _add(cache, key)
    cache.touch(SnapshotId("a"))
    for key in "de":
        _add(cache, key)
    assert _evict(cache) == ["b", "c"]


def test_cheap_and_big_snapshots_leave_first() -> None:
    cache = Cache(CacheLimits(overall=2))
    _add(cache, "dear", cost_s=1.0)
    _add(cache, "big", own_mb=50, cost_s=0.1)
    _add(cache, "small", cost_s=0.1)
    assert _evict(cache) == ["big"]


def test_a_dear_snapshot_leaves_in_the_end() -> None:
    cache = Cache(CacheLimits(overall=2))
    gone: list[str] = []
    _add(cache, "dear", cost_s=0.1)
    for number in range(100):
        _add(cache, str(number), cost_s=0.01)
        gone += _evict(cache)
    assert "dear" in gone


def test_each_tree_has_its_own_bound() -> None:
    cache = Cache(CacheLimits(per_tree=2, overall=100))
    for number in range(5):
        _add(cache, f"a{number}", tree="a")
    _add(cache, "b0", tree="b", cost_s=0.0)
    assert _evict(cache) == ["a0", "a1", "a2"]


def test_running_steps_take_from_the_memory_of_snapshots() -> None:
    cache = Cache(CacheLimits(overall_mb=10))
    for number in range(10):
        _add(cache, str(number))
    assert _evict(cache) == []
    assert len(_evict(cache, running_bytes=4 * MB)) == 4


def test_a_pinned_snapshot_stays() -> None:
    cache = Cache(CacheLimits(overall=1))
    _add(cache, "a")
    _add(cache, "b")
    assert cache.victim(pinned=_keys("a")) == "b"
    assert cache.victim(pinned=_keys("ab")) is None


def test_children_inherit_cost_and_memory_of_a_removed_parent() -> None:
    cache = Cache(CacheLimits(overall=2))
    _add(cache, "parent", own_mb=60, grown_mb=58, cost_s=0.5)
    _add(cache, "child", parent="parent", own_mb=1, cost_s=0.1)
    cache.remove(SnapshotId("parent"))
    assert cache.live_bytes == 59 * MB
    _add(cache, "other", own_mb=1, cost_s=0.1)
    _add(cache, "third", own_mb=1, cost_s=0.1)
    assert _evict(cache) == ["child"]
    assert cache.live_bytes == 2 * MB


def test_cache_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="per_tree"):
        CacheLimits(per_tree=0)


@dataclass(frozen=True, slots=True)
class _Move:
    key: str
    tree: str
    parent: str
    mb: int
    cost_s: float


_KEYS = st.sampled_from([str(number) for number in range(21)])
_MOVES = st.lists(
    st.builds(_Move, _KEYS, st.sampled_from("xyz"), _KEYS, st.integers(0, 9), st.floats(0, 10)), max_size=60
)


@given(_MOVES)
def test_every_limit_holds_after_every_move(moves: list[_Move]) -> None:
    limits = CacheLimits(per_tree=4, overall=8, overall_mb=30)
    cache = Cache(limits)
    trees: dict[str, str] = {}
    for move in moves:
        if move.key in trees:
            cache.remove(SnapshotId(move.key))
        _add(
            cache,
            move.key,
            tree=move.tree,
            parent=move.parent,
            own_mb=move.mb,
            grown_mb=move.mb,
            cost_s=move.cost_s,
        )
        trees[move.key] = move.tree
        for key in _evict(cache):
            del trees[key]
        assert len(cache) == len(trees) <= limits.overall
        assert cache.live_bytes <= limits.overall_mb * MB
        assert all(count <= limits.per_tree for count in Counter(trees.values()).values())
    for key in trees:
        cache.remove(SnapshotId(key))
    assert cache.live_bytes == 0
