"""Counters: what a sandbox has done so far, for whoever embeds it to export."""

from bisect import bisect_left
from dataclasses import dataclass, field

from sandbox.outcomes import Outcome

WAIT_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Steps take milliseconds; one in an endless loop holds its slot for seconds."""


@dataclass(slots=True, kw_only=True)
class Counters:
    """Only ever grow."""

    steps: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    """New steps by outcome."""
    hits: int = 0
    """Steps whose parent was alive; those from the root not counted."""
    misses: int = 0
    replayed_steps: int = 0
    """Earlier steps that were run again."""
    evictions: int = 0
    """Live snapshots given up for others."""
    violations: int = 0
    """Frames that cannot be ours, and floods of refused forks."""
    resets: int = 0
    """Families killed because a process might have been made that nobody knows."""
    zygote_restarts: int = 0
    waits: list[int] = field(default_factory=lambda: [0] * (len(WAIT_BOUNDS_S) + 1))
    """Steps by how long they waited for a slot: up to each of `WAIT_BOUNDS_S`, and longer."""
    waited_s: float = 0.0
    """Of all of them together."""

    def count_wait(self, seconds: float) -> None:
        self.waits[bisect_left(WAIT_BOUNDS_S, seconds)] += 1
        self.waited_s += seconds

    @property
    def hit_rate(self) -> float | None:
        looked = self.hits + self.misses
        return self.hits / looked if looked else None
