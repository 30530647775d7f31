"""Levels: how well steps are confined, from what was seen to hold. Decides; tries nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


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
