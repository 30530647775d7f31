"""Forms: what an answer can be once read. Plain values, compared by `verdicts`."""

from dataclasses import dataclass
from enum import StrEnum

from server.answers.expressions import Expression


class Shape(StrEnum):
    """How a sequence is bracketed."""

    LIST = "list"
    """No brackets: 1, 2 or 3. The order does not matter, repetitions do."""
    SET = "set"
    """Braces: neither order nor repetitions matter."""
    CLOSED = "[]"
    OPEN = "()"
    """A tuple, a point or an open interval: the text alone does not tell, and equality is the same for all."""
    HALF_OPEN_LEFT = "(]"
    HALF_OPEN_RIGHT = "[)"
    ANGLE = "<>"
    """A vector in angle brackets."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A scalar, with the unit written behind (or, for money, before) it."""

    expression: Expression
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """Plain text, or a named set: lower case, single spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Letters and digits that are no expression, such as the base-16 numeral 1b0; lower case."""

    text: str


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits with their base: 204_5."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Colon:
    """A ratio or a time of day: 5:7, 07:25."""

    parts: tuple[Expression, ...]
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """Several forms, bracketed as `shape` says."""

    shape: Shape
    items: tuple["Form", ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A union of intervals and sets."""

    items: tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; the kind of bracket does not matter."""

    rows: tuple[tuple[Expression, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """sides[0] operators[0] sides[1] …, with operators among = ≠ < ≤ (the other way round is turned around)."""

    sides: tuple["Form", ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """letter ∈ container."""

    letter: str
    container: "Form"


Form = Quantity | Words | Code | Numeral | Colon | Sequence | Union | Matrix | Relation | Member
