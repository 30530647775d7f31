"""Cache: decides which live snapshots to give up. Pure: names and numbers, no process, no clock.

GreedyDual-Size (Cao and Irani, 1997): a snapshot's priority is the cost of replaying it per MB, on top of a level that
rises to the priority of whatever was given up last. Equal snapshots thus leave in the order of their last use, dear and
small ones stay longer than cheap and big ones, and none stays for ever.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sandbox.limits import CacheLimits

Key = TypeVar("Key", bound=Hashable)

FORK_COST_S = 0.004
"""A replay forks too, however little there is to replay."""

_LEAST_MB = 4.0
"""Copies of one state are seen to take one to three; the difference says nothing."""

_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is known of a live snapshot."""

    tree: Hashable
    parent: Hashable | None
    """The nearest ancestor that was alive when it was added, or has been since."""
    own_bytes: int
    """Not shared with its parent."""
    grown_bytes: int
    """What its state takes more than its parent's: stays in memory, when it goes, as long as its children live."""
    cost_s: float
    """CPU time of the steps between its parent and it."""
    priority: float = 0.0


class Cache(Generic[Key]):
    """Live snapshots by key."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._held: dict[Key, Held] = {}
        self._level = 0.0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    @property
    def live_bytes(self) -> int:
        return self._bytes

    def count(self, tree: Hashable) -> int:
        return sum(held.tree == tree for held in self._held.values())

    def add(self, key: Key, held: Held) -> None:
        self._held[key] = self._ranked(held)
        self._bytes += held.own_bytes

    def touch(self, key: Key) -> None:
        """It was used: as if added now."""
        self._held[key] = self._ranked(self._held.pop(key))

    def remove(self, key: Key) -> None:
        """It is gone: its children would cost its steps too, and the memory they share with it is now theirs."""
        gone = self._held.pop(key)
        self._bytes -= gone.own_bytes
        inherited = gone.grown_bytes
        for heir, held in self._held.items():
            if held.parent == key:
                self._held[heir] = replace(
                    held,
                    parent=gone.parent,
                    cost_s=held.cost_s + gone.cost_s,
                    own_bytes=held.own_bytes + inherited,
                    grown_bytes=held.grown_bytes + inherited,
                )
                self._bytes += inherited
                inherited = 0  # counted once

    def victim(self, *, pinned: Iterable[Key] = (), running_bytes: int = 0) -> Key | None:
        """The snapshot to give up next, or None where every limit holds; the caller removes it and asks again."""
        is_over = len(self._held) > self._limits.overall
        is_over |= self._bytes + running_bytes > self._limits.overall_mb * _MB
        kept = set(pinned)
        free = [(held.priority, key, held.tree) for key, held in self._held.items() if key not in kept]
        crowded = self._crowded_trees()
        # What a crowded tree gives up helps the overall limits too.
        candidates = [candidate for candidate in free if candidate[2] in crowded] or (free if is_over else [])
        if not candidates:
            return None
        priority, key, _ = min(candidates, key=lambda candidate: candidate[0])
        self._level = max(self._level, priority)
        return key

    def _crowded_trees(self) -> set[Hashable]:
        counts: dict[Hashable, int] = {}
        for held in self._held.values():
            counts[held.tree] = counts.get(held.tree, 0) + 1
        return {tree for tree, count in counts.items() if count > self._limits.per_tree}

    def _ranked(self, held: Held) -> Held:
        cost_s_per_mb = (held.cost_s + FORK_COST_S) / max(held.own_bytes / _MB, _LEAST_MB)
        return replace(held, priority=self._level + cost_s_per_mb)
