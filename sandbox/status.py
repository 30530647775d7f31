"""Status: what a sandbox is and does at one moment, for health answers, metrics and `doctor`."""

from dataclasses import dataclass

from sandbox.counters import Counters
from sandbox.levels import Level, Protection
from sandbox.limits import CacheLimits, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A view; `counters` is the live object."""

    level: Level
    protections: tuple[Protection, ...]
    landlock_version: int | None
    fork_gate: str
    """How the server has the last word on forks."""
    missing_modules: tuple[str, ...]
    limits: Limits
    cache_limits: CacheLimits
    live_snapshots: int
    live_bytes: int
    live_trees: int
    queue_depth: int
    busy_workers: int
    """Steps that run now."""
    idle_workers: int
    counters: Counters
