"""Modes: the ways of running searches that the benchmark compares. Holds values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How searches run."""

    name: str
    rollouts: int
    """Rollouts in flight within one tree."""
    is_lock_step: bool = False
    temperature: float | None = None
    """None: the temperature at which the modes are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One measurement: requests in flight, in one mode, until a number of them are answered."""

    mode: Mode
    requests: int
    answers: int

    @property
    def name(self) -> str:
        """Part of the names of figures."""
        return f"{self.requests}_requests/{self.mode.name}"
