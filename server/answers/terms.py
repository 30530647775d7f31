"""Terms: the values that answers are read into. Nothing here parses, computes or compares.

An expression holds only exact numbers, one-letter symbols and a closed set of operators. The algebra system sees
nothing else of an answer, so text written by a model never reaches an evaluator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal


class Constant(StrEnum):
    """Named numbers."""

    PI = "pi"
    """3.14159…"""
    E = "e"
    """2.71828…"""
    I = "i"  # noqa: E741 - its usual name
    """The imaginary unit."""
    INFINITY = "infinity"
    """Only an end of an interval, or a whole answer."""


Function = Literal[
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "ln",
    "exp",
    "log",
    "factorial",
]
"""Functions that answers name. `log` has the operands (value, base), or only the value: the base is then unknown."""
Operator = Literal["sum", "product", "written product", "quotient", "power", "root", "abs", "binomial", Function]
"""`written product` has every multiplication sign, as in 2 × 2 × 3. `root` has the operands (radicand, whole index)."""


@dataclass(frozen=True, slots=True)
class Number:
    """An exact rational number, however it was spelled."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter, with its subscript if it has one. Case matters."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator applied to its operands: `Operation("power", (Symbol("x"), Number(Fraction(2))))` is x²."""

    operator: Operator
    operands: tuple["Expression", ...]


Expression = Number | Symbol | Constant | Operation


class Shape(StrEnum):
    """The brackets of a sequence."""

    LIST = "list"
    """No brackets: 1, 2 or 3. The order does not matter, repetitions do."""
    SET = "set"
    """Braces: neither order nor repetitions matter."""
    CLOSED = "[]"
    OPEN = "()"
    """A tuple, a point or an open interval: the text does not distinguish them, and their equality is the same."""
    HALF_OPEN_LEFT = "(]"
    HALF_OPEN_RIGHT = "[)"
    ANGLE = "<>"
    """A vector in angle brackets."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An expression, with the unit written behind it (for money also before it)."""

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
    """Several forms in the brackets of `shape`."""

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
    """sides[0] operators[0] sides[1] …, with operators among = ≠ < ≤. The reader turns > and ≥ around."""

    sides: tuple["Form", ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """letter ∈ container."""

    letter: str
    container: "Form"


Form = Quantity | Words | Code | Numeral | Colon | Sequence | Union | Matrix | Relation | Member
"""What a whole answer, or an item of it, can be."""


def negated(expression: Expression) -> Expression:
    """-expression, folded into the number where it is one."""
    if isinstance(expression, Number):
        return Number(-expression.value)
    return Operation("product", (Number(Fraction(-1)), expression))


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything inside it."""
    yield expression
    if isinstance(expression, Operation):
        for operand in expression.operands:
            yield from walk(operand)


def symbols(expression: Expression) -> frozenset[str]:
    """The letters in the expression."""
    return frozenset(part.name for part in walk(expression) if isinstance(part, Symbol))


def letters_in(form: Form) -> frozenset[str]:
    """The letters of the expressions inside. Matrices, relations and the rest count as having none."""
    match form:
        case Quantity(expression):
            return symbols(expression)
        case Sequence(_, items) | Union(items):
            return frozenset[str]().union(*map(letters_in, items))
        case _:
            return frozenset()
