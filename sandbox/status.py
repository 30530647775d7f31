"""Status: the current load and the counters of a sandbox, for health answers, metrics and `doctor`."""

from bisect import bisect_left
from dataclasses import dataclass, field

from sandbox.cache import CacheLimits
from sandbox.levels import Level, Protection
from sandbox.step import Limits, Outcome

WAIT_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Upper bounds of a histogram. Steps take milliseconds; one in an endless loop holds its slot for seconds."""


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
    """Live snapshots killed to make room for others."""
    violations: int = 0
    """Malformed or foreign frames, and floods of refused forks."""
    resets: int = 0
    """Families killed because there might have been a process that the server does not know."""
    zygote_restarts: int = 0
    waits: list[int] = field(default_factory=lambda: [0] * (len(WAIT_BOUNDS_S) + 1))
    """Steps by how long they waited for a slot: up to each of `WAIT_BOUNDS_S`, and longer."""
    waited_s: float = 0.0
    """Sum of all these waits."""

    def count_wait(self, seconds: float) -> None:
        """Note that a step waited this long for its slot."""
        self.waits[bisect_left(WAIT_BOUNDS_S, seconds)] += 1
        self.waited_s += seconds

    @property
    def hit_rate(self) -> float | None:
        """Share of the steps whose parent was alive, 0 to 1; None before there was one."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A view of one moment; `counters` is the live object."""

    level: Level
    protections: tuple[Protection, ...]
    landlock_version: int | None
    fork_gate: str
    """The mechanism that decides about forks, in words."""
    missing_modules: tuple[str, ...]
    """Preloaded modules that are not installed."""
    limits: Limits
    cache_limits: CacheLimits
    live_snapshots: int
    live_bytes: int
    """Memory that live snapshots and running steps do not share, in bytes."""
    live_trees: int
    """Trees with processes."""
    queue_depth: int
    """Steps that wait for a slot."""
    busy_workers: int
    """Steps that run now."""
    idle_workers: int
    counters: Counters
