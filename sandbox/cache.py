"""Cache: decides which live snapshots to evict. Pure: names and numbers, no process, no clock.

GreedyDual-Size (Cao and Irani, 1997): a snapshot's priority is the cost of replaying it per MB, on top of a level that
rises to the priority of the last evicted one. Equal snapshots thus leave in the order of their last use, expensive
small ones stay longer than cheap big ones, and none stays for ever.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields, replace

from sandbox.step import SnapshotId

FORK_COST_S = 0.004
"""A replay forks too, however little there is to replay."""

_LEAST_MB = 4.0
"""Copies of one state take one to three, so the difference means nothing."""

_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How many snapshots are kept alive; others are replayed when they are needed. All at least 1, else ValueError."""

    per_tree: int = 32
    """More hardly ever helps: a random expansion of a tree finds 97 % of its parents among the last 32."""
    overall: int = 256
    overall_mb: int = 2048
    """Memory that live snapshots do not share, with that of running steps on top."""
    snapshot_mb: int = 64
    """A bigger state is not kept: it costs as much to fork as a replay."""
    trees: int = 64
    """Trees with processes; the tree that has been idle for longest loses them to the next."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A live snapshot and its costs."""

    tree: str
    parent: SnapshotId | None
    """The nearest ancestor that was alive when it was added, or has been since."""
    own_bytes: int
    """Not shared with its parent."""
    grown_bytes: int
    """What its state takes more than its parent's: stays in memory, when it goes, as long as its children live."""
    cost_s: float
    """CPU time of the steps between its parent and it."""
    priority: float = 0.0


class Cache:
    """Live snapshots by key."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._entries: dict[SnapshotId, Entry] = {}
        self._level = 0.0
        self.live_bytes = 0
        """What the entries do not share."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: SnapshotId, entry: Entry) -> None:
        """Add a snapshot. The caller then removes the one that `victim` names."""
        self._entries[key] = self._ranked(entry)
        self.live_bytes += entry.own_bytes

    def touch(self, key: SnapshotId) -> None:
        """Note that it was used: it counts as added now."""
        self._entries[key] = self._ranked(self._entries.pop(key))

    def remove(self, key: SnapshotId) -> None:
        """It is gone: its children would cost its steps too, and the memory they share with it is now theirs."""
        gone = self._entries.pop(key)
        self.live_bytes -= gone.own_bytes
        inherited = gone.grown_bytes
        for child, entry in self._entries.items():
            if entry.parent == key:
                self._entries[child] = replace(
                    entry,
                    parent=gone.parent,
                    cost_s=entry.cost_s + gone.cost_s,
                    own_bytes=entry.own_bytes + inherited,
                    grown_bytes=entry.grown_bytes + inherited,
                )
                self.live_bytes += inherited
                inherited = 0  # counted once

    def victim(self, *, pinned: Collection[SnapshotId] = (), running_bytes: int = 0) -> SnapshotId | None:
        """The snapshot to evict next, or None where every limit holds; the caller removes it and asks again."""
        is_over = len(self) > self._limits.overall or self.live_bytes + running_bytes > self._limits.overall_mb * _MB
        counts = Counter(entry.tree for entry in self._entries.values())
        free = {key: entry for key, entry in self._entries.items() if key not in pinned}
        crowded = [key for key, entry in free.items() if counts[entry.tree] > self._limits.per_tree]
        # An eviction from a crowded tree helps the overall limits too.
        candidates = crowded or (list(free) if is_over else [])
        if not candidates:
            return None
        key = min(candidates, key=lambda candidate: free[candidate].priority)
        self._level = max(self._level, free[key].priority)
        return key

    def _ranked(self, entry: Entry) -> Entry:
        cost_s_per_mb = (entry.cost_s + FORK_COST_S) / max(entry.own_bytes / _MB, _LEAST_MB)
        return replace(entry, priority=self._level + cost_s_per_mb)
