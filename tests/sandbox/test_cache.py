"""Which live snapshots are given up."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sandbox import CacheLimits
from sandbox.cache import Cache, Held

MB = 1 << 20


def _held(
    *, tree: str = "t", parent: str | None = None, own_mb: float = 1, grown_mb: float = 0, cost_s: float = 0.01
) -> Held:
    return Held(tree=tree, parent=parent, own_bytes=int(own_mb * MB), grown_bytes=int(grown_mb * MB), cost_s=cost_s)


def _evict(cache: Cache[str], *, running_bytes: int = 0) -> list[str]:
    gone: list[str] = []
    while (key := cache.victim(running_bytes=running_bytes)) is not None:
        cache.remove(key)
        gone.append(key)
    return gone


def test_equal_snapshots_leave_in_the_order_of_their_last_use() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall=3))
    for key in "abc":
        cache.add(key, _held())
    cache.touch("a")
    for key in "de":
        cache.add(key, _held())
    assert _evict(cache) == ["b", "c"]


def test_cheap_and_big_ones_leave_first() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall=2))
    cache.add("dear", _held(cost_s=1.0))
    cache.add("big", _held(own_mb=50, cost_s=0.1))
    cache.add("small", _held(cost_s=0.1))
    assert _evict(cache) == ["big"]


def test_a_dear_one_leaves_in_the_end() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall=2))
    cache.add("dear", _held(cost_s=0.1))
    for number in range(100):
        cache.add(str(number), _held(cost_s=0.01))
        _evict(cache)
    assert "dear" not in cache


def test_each_tree_has_its_own_bound() -> None:
    cache: Cache[str] = Cache(CacheLimits(per_tree=2, overall=100))
    for number in range(5):
        cache.add(f"a{number}", _held(tree="a"))
    cache.add("b0", _held(tree="b", cost_s=0.0))
    assert _evict(cache) == ["a0", "a1", "a2"]
    assert cache.count("b") == 1


def test_running_steps_take_from_the_memory_of_snapshots() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall_mb=10))
    for number in range(10):
        cache.add(str(number), _held())
    assert _evict(cache) == []
    assert len(_evict(cache, running_bytes=4 * MB)) == 4


def test_a_pinned_snapshot_stays() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall=1))
    cache.add("a", _held())
    cache.add("b", _held())
    assert cache.victim(pinned=["a"]) == "b"
    assert cache.victim(pinned=["a", "b"]) is None


def test_children_inherit_cost_and_memory_of_a_parent_that_is_gone() -> None:
    cache: Cache[str] = Cache(CacheLimits(overall=2))
    cache.add("parent", _held(own_mb=60, grown_mb=58, cost_s=0.5))
    cache.add("child", _held(parent="parent", own_mb=1, cost_s=0.1))
    cache.remove("parent")
    assert cache.live_bytes == 59 * MB
    cache.add("other", _held(own_mb=1, cost_s=0.1))
    cache.add("third", _held(own_mb=1, cost_s=0.1))
    assert _evict(cache) == ["child"]
    assert cache.live_bytes == 2 * MB


@dataclass(frozen=True, slots=True)
class _Move:
    key: int
    tree: int
    parent: int
    mb: int
    cost_s: float


MOVES = st.lists(
    st.builds(_Move, st.integers(0, 20), st.integers(0, 2), st.integers(0, 20), st.integers(0, 9), st.floats(0, 10)),
    max_size=60,
)


@given(MOVES)
def test_every_limit_holds_after_every_move(moves: list[_Move]) -> None:
    limits = CacheLimits(per_tree=4, overall=8, overall_mb=30)
    cache: Cache[int] = Cache(limits)
    for move in moves:
        if move.key in cache:
            cache.remove(move.key)
        held = Held(
            tree=move.tree, parent=move.parent, own_bytes=move.mb * MB, grown_bytes=move.mb * MB, cost_s=move.cost_s
        )
        cache.add(move.key, held)
        while (victim := cache.victim()) is not None:
            cache.remove(victim)
        assert len(cache) <= limits.overall
        assert cache.live_bytes <= limits.overall_mb * MB
        assert all(cache.count(tree) <= limits.per_tree for tree in range(3))
    for key in range(21):
        if key in cache:
            cache.remove(key)
    assert cache.live_bytes == 0
