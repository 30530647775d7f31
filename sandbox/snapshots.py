"""Snapshots: the live ones of all trees: stopped processes by the name of the state they hold.

Kills what the cache gives up. A snapshot that is not here is not lost: its tree can replay it.
"""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from sandbox.cache import Cache, Held
from sandbox.counters import Counters
from sandbox.ending import SnapshotId
from sandbox.family import Family
from sandbox.limits import CacheLimits
from sandbox.process import NodeProcess, Usage

_MB = 1 << 20


class Live(NamedTuple):
    """A stopped node and the family it belongs to."""

    node: NodeProcess
    family: Family


class Snapshots:
    """Belongs to one event loop."""

    def __init__(self, limits: CacheLimits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._cache: Cache[SnapshotId] = Cache(limits)
        self._live: dict[SnapshotId, Live] = {}
        self._resident: dict[SnapshotId, int] = {}
        self._running: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._live)

    @property
    def live_bytes(self) -> int:
        """Memory that live snapshots and running steps do not share."""
        return self._cache.live_bytes + sum(self._running.values())

    def get(self, key: SnapshotId, family: Family) -> NodeProcess | None:
        """The node, if it is alive in this family."""
        live = self._live.get(key)
        if live is None or live.family is not family:
            return None
        self._cache.touch(key)
        return live.node

    def keep(self, key: SnapshotId, live: Live, *, tree: Hashable, parent: SnapshotId | None, cost_s: float) -> bool:
        """Keep a stopped node, if it is not too big; others make room. One not kept stays the caller's."""
        usage = live.node.usage()
        self.look_away(live.node.pid)
        most_bytes = min(self._limits.snapshot_mb * _MB, self._limits.overall_mb * _MB - sum(self._running.values()))
        if usage.own_bytes > most_bytes or key in self._live:
            return False
        self._live[key] = live
        self._resident[key] = usage.resident_bytes
        base_bytes = self._resident.get(parent, usage.resident_bytes) if parent is not None else usage.resident_bytes
        held = Held(
            tree=tree,
            parent=parent,
            own_bytes=usage.own_bytes,
            grown_bytes=max(0, usage.resident_bytes - base_bytes),
            cost_s=cost_s,
        )
        self._cache.add(key, held)
        for victim in self._victims(newcomer=key):
            self._evict(victim)
        if next(self._victims(), None) is not None:
            self._remove(key)  # those that are left are being forked
            return False
        # Ranked above those that made room for it: the state just reached is the likeliest to be wanted.
        self._cache.touch(key)
        return True

    def forget(self, key: SnapshotId) -> None:
        """Kill one, if it is alive."""
        if key in self._live:
            live = self._remove(key)
            live.family.discard(live.node)

    def forget_family(self, family: Family) -> None:
        """A family ends, or has."""
        for key in [key for key, live in self._live.items() if live.family is family]:
            self.forget(key)

    def look(self, pid: int, usage: Usage) -> None:
        """A running step has grown to this: snapshots may have to go for it."""
        self._running[pid] = usage.own_bytes
        for victim in self._victims():
            self._evict(victim)

    def look_away(self, pid: int) -> None:
        """It runs no more."""
        self._running.pop(pid, None)

    def _victims(self, *, newcomer: SnapshotId | None = None) -> Iterator[SnapshotId]:
        """Snapshots to be given up, until every limit holds or only `newcomer` and those are left that are forked."""
        pinned = [key for key, live in self._live.items() if live.node.pins or key == newcomer]
        running_bytes = sum(self._running.values())
        while (key := self._cache.victim(pinned=pinned, running_bytes=running_bytes)) is not None:
            yield key

    def _evict(self, key: SnapshotId) -> None:
        self._counters.evictions += 1
        self.forget(key)

    def _remove(self, key: SnapshotId) -> Live:
        self._resident.pop(key)
        self._cache.remove(key)
        return self._live.pop(key)
