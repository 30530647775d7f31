"""Snapshots: the live snapshots of all trees: stopped processes, by the name of their state.

Kills what the cache evicts. A snapshot that is not here is not lost: its tree can replay it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sandbox.cache import Cache, CacheLimits, Entry
from sandbox.family import Family
from sandbox.node_process import NodeProcess, Usage
from sandbox.status import Counters
from sandbox.step import SnapshotId

_MB = 1 << 20


class _Live(NamedTuple):
    """A stopped node."""

    node: NodeProcess
    family: Family
    resident_bytes: int


class Snapshots:
    """Belongs to one event loop."""

    def __init__(self, limits: CacheLimits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._cache = Cache(limits)
        self._live: dict[SnapshotId, _Live] = {}
        self._running_bytes: dict[int, int] = {}
        """Memory of running steps, by pid."""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def live_bytes(self) -> int:
        """Memory that live snapshots and running steps do not share."""
        return self._cache.live_bytes + sum(self._running_bytes.values())

    def get(self, key: SnapshotId, family: Family) -> NodeProcess | None:
        """The node, if it is alive in this family."""
        live = self._live.get(key)
        if live is None or live.family is not family:
            return None
        self._cache.touch(key)
        return live.node

    def keep(
        self, key: SnapshotId, node: NodeProcess, family: Family, *, tree: str, parent: SnapshotId | None, cost_s: float
    ) -> bool:
        """Keep a stopped node, if it is not too big; others make room. A node that is not kept stays the caller's.

        `cost_s`: CPU time of the steps since `parent`, the nearest live ancestor.
        """
        usage = node.usage()
        self.forget_running(node.pid)
        running_bytes = sum(self._running_bytes.values())
        most_bytes = min(self._limits.snapshot_mb * _MB, self._limits.overall_mb * _MB - running_bytes)
        if usage.own_bytes > most_bytes or key in self._live:
            return False
        base = self._live.get(parent) if parent is not None else None
        grown_bytes = max(0, usage.resident_bytes - base.resident_bytes) if base is not None else 0
        self._live[key] = _Live(node, family, usage.resident_bytes)
        self._cache.add(
            key, Entry(tree=tree, parent=parent, own_bytes=usage.own_bytes, grown_bytes=grown_bytes, cost_s=cost_s)
        )
        for victim in self._victims(newcomer=key):
            self._evict(victim)
        if next(self._victims(), None) is not None:
            self._remove(key)  # those that are left are being forked
            return False
        # Ranked above those that were evicted for it: the state just reached is the likeliest to be used.
        self._cache.touch(key)
        return True

    def forget(self, key: SnapshotId) -> None:
        """Kill one, if it is alive."""
        if key in self._live:
            live = self._remove(key)
            live.family.discard(live.node)

    def forget_family(self, family: Family) -> None:
        """Kill all of a family that ends, or has ended."""
        for key in [key for key, live in self._live.items() if live.family is family]:
            self.forget(key)

    def note_running(self, pid: int, usage: Usage) -> None:
        """A running step has grown to this: snapshots may have to go for it."""
        self._running_bytes[pid] = usage.own_bytes
        for victim in self._victims():
            self._evict(victim)

    def forget_running(self, pid: int) -> None:
        """The step runs no more."""
        self._running_bytes.pop(pid, None)

    def _victims(self, *, newcomer: SnapshotId | None = None) -> Iterator[SnapshotId]:
        """Snapshots to evict, until every limit holds or only `newcomer` and those are left that are being forked."""
        pinned = {key for key, live in self._live.items() if live.node.pins or key == newcomer}
        running_bytes = sum(self._running_bytes.values())
        while (key := self._cache.victim(pinned=pinned, running_bytes=running_bytes)) is not None:
            yield key

    def _evict(self, key: SnapshotId) -> None:
        self._counters.evictions += 1
        self.forget(key)

    def _remove(self, key: SnapshotId) -> _Live:
        self._cache.remove(key)
        return self._live.pop(key)
