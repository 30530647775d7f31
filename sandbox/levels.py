"""Levels: how well steps are confined, from what was seen to hold, and how well they must be at least.

Decides; tries nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

LEVEL_VARIABLE = "RSTAR_SANDBOX_MIN_LEVEL"
"""`full` (the default) or `reduced`: with less, nothing starts."""


class Level(StrEnum):
    """How well steps are confined."""

    FULL = "full"
    """Every layer holds."""
    REDUCED = "reduced"
    """Every mandatory layer holds; namespaces or Landlock do not."""
    NONE = "none"
    """A mandatory layer is missing: steps must not run."""

    def is_at_least(self, other: "Level") -> bool:
        order = list(Level)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One thing that steps must not be able to do, or one layer that is to stop them."""

    name: str
    is_mandatory: bool
    reason: str | None
    """Why it does not hold, in words; None where it does."""


def assess(protections: Iterable[Protection]) -> Level:
    missing = [protection for protection in protections if protection.reason is not None]
    if any(protection.is_mandatory for protection in missing):
        return Level.NONE
    return Level.REDUCED if missing else Level.FULL


def wanted_level(environment: Mapping[str, str]) -> Level:
    """The least level that the environment permits. Raises ValueError."""
    text = environment.get(LEVEL_VARIABLE, Level.FULL)
    if text not in (Level.FULL, Level.REDUCED):
        raise ValueError(f"{LEVEL_VARIABLE} must be {Level.FULL} or {Level.REDUCED}, not {text!r}")
    return Level(text)


def refusal(level: Level, wanted: Level, protections: Iterable[Protection]) -> str:
    """Why there is no start, and what would permit one."""
    failed = "; ".join(f"{protection.name}: {protection.reason}" for protection in protections if protection.reason)
    remedy = f"{LEVEL_VARIABLE}={level} would permit it"
    if level is Level.NONE:
        remedy = f"no value of {LEVEL_VARIABLE} permits that"
    return f"steps can be confined at level {level} only, and {wanted} is wanted ({failed}); {remedy}"
