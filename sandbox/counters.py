"""Counters: what a sandbox has done so far, for whoever embeds it to export."""

from dataclasses import dataclass, field

from sandbox.outcomes import Outcome


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

    @property
    def hit_rate(self) -> float | None:
        looked = self.hits + self.misses
        return self.hits / looked if looked else None
