"""Expressions: the scalar syntax trees an answer is read into. Plain values; nothing here computes or parses.

A tree can only hold what the grammar puts there: exact numbers, one-letter symbols and a closed set of functions. It is
all that the algebra system ever sees of an answer, so that no text written by a model reaches an evaluator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Constant(StrEnum):
    """Named numbers."""

    PI = "pi"
    """3.14159…"""
    E = "e"
    """2.71828…"""
    I = "i"  # noqa: E741 - its usual name
    """The imaginary unit."""
    INFINITY = "infinity"
    """Only as an end of an interval, or as a whole answer."""


class Function(StrEnum):
    """Functions the grammar knows."""

    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    COT = "cot"
    SEC = "sec"
    CSC = "csc"
    ARCSIN = "arcsin"
    ARCCOS = "arccos"
    ARCTAN = "arctan"
    SINH = "sinh"
    COSH = "cosh"
    TANH = "tanh"
    LN = "ln"
    EXP = "exp"
    LOG = "log"
    """Two arguments (value, base), or one: the base is then not known."""
    ABS = "abs"
    FACTORIAL = "factorial"
    BINOMIAL = "binomial"
    """Two arguments."""


@dataclass(frozen=True, slots=True)
class Number:
    """An exact rational, however it was spelled."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter, with its subscript if it has one. Case matters."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """terms[0] + terms[1] + …"""

    terms: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Product:
    """factors[0] · factors[1] · …"""

    factors: tuple["Expression", ...]
    is_explicit: bool = False
    """Every multiplication sign was written out, as in 2 × 2 × 3."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """top / bottom."""

    top: "Expression"
    bottom: "Expression"


@dataclass(frozen=True, slots=True)
class Power:
    """base ^ exponent."""

    base: "Expression"
    exponent: "Expression"


@dataclass(frozen=True, slots=True)
class Root:
    """The real `index`-th root where there is one (index >= 2)."""

    radicand: "Expression"
    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function applied."""

    function: Function
    arguments: tuple["Expression", ...]


Expression = Number | Symbol | Constant | Sum | Product | Quotient | Power | Root | Call


def negated(expression: Expression) -> Expression:
    """-expression, folded into the number where it is one."""
    if isinstance(expression, Number):
        return Number(-expression.value)
    return Product((Number(Fraction(-1)), expression))


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything inside it."""
    yield expression
    for child in children(expression):
        yield from walk(child)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct parts."""
    match expression:
        case Number() | Symbol() | Constant():
            return ()
        case Sum(terms):
            return terms
        case Product(factors):
            return factors
        case Quotient(top, bottom):
            return (top, bottom)
        case Power(base, exponent):
            return (base, exponent)
        case Root(radicand):
            return (radicand,)
        case Call(_, arguments):
            return arguments


def symbols(expression: Expression) -> frozenset[str]:
    """Names of the letters in the expression."""
    return frozenset(part.name for part in walk(expression) if isinstance(part, Symbol))
