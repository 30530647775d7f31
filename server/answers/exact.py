"""Exact values: evaluates expressions over the Gaussian rationals (a + bi with rational a and b), in bounded time.

None means that the expression has no such value, or that finding it takes algebra (letters, surds, pi). `Uncomparable`
means that the expression must not be evaluated: a division by zero, a power tower, a root with no agreed value. The
functions named `is_…_reading` say whether a form that is no number may stand for one.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add, mul

from server.answers.terms import (
    Colon,
    Constant,
    Expression,
    Form,
    Number,
    Numeral,
    Operation,
    Operator,
    Quantity,
    Sequence,
    Shape,
    Symbol,
)

MAX_BITS = 4_000
"""Longest integer a power may give: 1,200 digits, as many as an answer could write out."""
MAX_EXPONENT = 1_000
"""Largest exponent, factorial or root index; answers stay far below, and algebra slows down quickly above."""

_SECONDS = {"s": 1, "minute": 60, "h": 3600, "day": 86_400}


class Uncomparable(Exception):
    """The expression has no value that could be compared within bounds."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """re + im·i."""

    re: Fraction
    im: Fraction = Fraction(0)

    def __add__(self, other: "Gaussian") -> "Gaussian":
        return Gaussian(self.re + other.re, self.im + other.im)

    def __mul__(self, other: "Gaussian") -> "Gaussian":
        return Gaussian(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    def inverse(self) -> "Gaussian":
        norm = self.re * self.re + self.im * self.im
        if norm == 0:
            raise Uncomparable("division by zero")
        return Gaussian(self.re / norm, -self.im / norm)

    def bits(self) -> int:
        """Length of the longest integer inside."""
        return max(n.bit_length() for part in (self.re, self.im) for n in (part.numerator, part.denominator))


def exact(expression: Expression) -> Gaussian | None:
    """The exact value, None if algebra is needed; raises `Uncomparable`."""
    match expression:
        case Number(value):
            return Gaussian(value)
        case Constant.I:
            return Gaussian(Fraction(0), Fraction(1))
        case Constant.INFINITY:
            raise Uncomparable("infinity inside an expression")
        case Symbol() | Constant():
            return None
        case Operation(operator, operands):
            # Every operand is evaluated, also beside a letter: algebra must never see a power tower.
            return _operated(operator, [exact(operand) for operand in operands])


def rational_value(form: Form) -> Fraction | None:
    """The value of a scalar whose value is known and rational."""
    if not isinstance(form, Quantity):
        return None
    try:
        value = exact(form.expression)
    except Uncomparable:
        return None
    return value.re if value is not None and value.im == 0 else None


def infinite_sign(expression: Expression) -> int:
    """1 for infinity, -1 for minus infinity, 0 for everything else."""
    match expression:
        case Constant.INFINITY:
            return 1
        case Operation("product", (Number(value), Constant.INFINITY)) if abs(value) == 1:
            return value.numerator
        case _:
            return 0


def is_factorisation(expression: Expression) -> bool:
    """Whether it is a written-out product of prime powers, of at least two different primes.

    Such a product is an answer about form: 2 × 2 × 3 answers another question than 12 or 2 × 6. A power of one prime
    counts as its value, so that 2^10 stays 1024.
    """
    match expression:
        case Operation("written product", factors):
            primes = [_prime_of(factor) for factor in factors]
            return None not in primes and len(set(primes)) > 1
        case _:
            return False


def proportion_of(parts: tuple[Expression, ...]) -> Fraction | None:
    """a/b of a:b."""
    match [rational_value(Quantity(part)) for part in parts]:
        case [Fraction() as top, Fraction() as bottom] if bottom:
            return top / bottom
        case _:
            return None


def is_clock_reading(colon: Colon, quantity: Quantity) -> bool:
    """Whether a:b or a:b:c may mean the quantity: as a ratio, or as a time in its unit; also where neither is known."""
    value = rational_value(quantity)
    parts = [rational_value(Quantity(part)) for part in colon.parts]
    known = [part for part in parts if part is not None]
    if value is None or len(known) < len(parts):
        return True
    if quantity.unit not in _SECONDS:
        return value == proportion_of(colon.parts)
    # 2:30 is two and a half hours or minutes; with three parts the first are hours.
    firsts = (3600,) if len(known) > 2 else (3600, 60)
    times = {sum(part * first / Fraction(60) ** place for place, part in enumerate(known)) for first in firsts}
    return value * _SECONDS[quantity.unit] in times


def is_numeral_reading(numeral: Numeral, quantity: Quantity) -> bool:
    """Whether the numeral may mean the quantity: in its base, or in base 10; also where the value is not known."""
    readings: list[Fraction | None] = [None]
    for base in (numeral.base, 10):
        with suppress(ValueError):
            readings.append(Fraction(int(numeral.digits, base)))
    return rational_value(quantity) in readings


def is_grouped_reading(sequence: Sequence, quantity: Quantity) -> bool:
    """Whether the list `1, 200` may mean 1200: a number written with a comma and a space."""
    values = [rational_value(item) for item in sequence.items]
    groups = [value for value in values if value is not None and value.denominator == 1 and 0 <= value < 1000]
    if sequence.shape is not Shape.LIST or len(groups) < len(values):
        return False
    number = sum(group * 1000**place for place, group in enumerate(reversed(groups)))
    return rational_value(quantity) == number


def _operated(operator: Operator, parts: list[Gaussian | None]) -> Gaussian | None:
    match operator, parts:
        case "power", [base, exponent]:
            return _power(base, exponent)
        case "root", [radicand, Gaussian(index)]:
            return _root(radicand, index.numerator)
        case "quotient", [top, Gaussian() as bottom]:
            parts = [top, bottom.inverse()]
        case _:
            pass
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if operator in ("sum", "product", "written product", "quotient"):
        if sum(part.bits() for part in known) > MAX_BITS:
            raise Uncomparable("number too long")
        return reduce(add if operator == "sum" else mul, known)
    return None if any(part.im for part in known) else _function_value(operator, [part.re for part in known])


def _function_value(operator: Operator, arguments: list[Fraction]) -> Gaussian | None:
    match operator:
        case "abs":
            return Gaussian(abs(arguments[0]))
        case "factorial":
            return Gaussian(Fraction(math.factorial(_small_natural(arguments[0]))))
        case "binomial":
            return Gaussian(Fraction(math.comb(*map(_small_natural, arguments))))
        case _:
            return None


def _small_natural(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= MAX_EXPONENT:
        raise Uncomparable("not a natural number within bounds")
    return value.numerator


def _power(base: Gaussian | None, exponent: Gaussian | None) -> Gaussian | None:
    if exponent is None or exponent.im != 0:
        return None
    power = exponent.re
    if max(abs(power.numerator), power.denominator) > MAX_EXPONENT:
        raise Uncomparable("exponent too large")
    if base is None:
        return None
    if base == Gaussian(Fraction(0)) and power <= 0:
        raise Uncomparable("zero to a power that is not positive")
    if base.im == 0 and base.re < 0 and power.denominator > 2:
        # (-8)^(1/3) is -2 to one reader and 1 + 1.73i to another.
        raise Uncomparable("fractional power of a negative number")
    root = base if power.denominator == 1 else _root(base, power.denominator)
    if root is None:
        return None
    if root.bits() * abs(power.numerator) > MAX_BITS:
        raise Uncomparable("power too large")
    return _natural_power(root if power > 0 else root.inverse(), abs(power.numerator))


def _natural_power(base: Gaussian, power: int) -> Gaussian:
    if power == 0:
        return Gaussian(Fraction(1))
    half = _natural_power(base * base, power // 2)
    return half * base if power % 2 else half


def _root(radicand: Gaussian | None, index: int) -> Gaussian | None:
    if index > MAX_EXPONENT:
        raise Uncomparable("root index too large")
    if radicand is None or radicand.im != 0:
        return None
    top, bottom = _integer_root(abs(radicand.re.numerator), index), _integer_root(radicand.re.denominator, index)
    if top is None or bottom is None:
        return None
    root = Fraction(top, bottom)
    if radicand.re < 0 and index % 2 == 0:
        return Gaussian(Fraction(0), root) if index == 2 else None
    return Gaussian(root if radicand.re >= 0 else -root)


def _integer_root(value: int, index: int) -> int | None:
    """The exact root, by Newton's method from above; None if it is not an integer."""
    if value == 0:
        return 0
    root = 1 << (value.bit_length() // index + 1)
    while (better := ((index - 1) * root + value // root ** (index - 1)) // index) < root:
        root = better
    return root if root**index == value else None


def _prime_of(factor: Expression) -> int | None:
    """The prime of a prime or prime power. Numbers from 10^8 count as not prime, to stay cheap (10^4 divisions)."""
    match factor:
        case Number(base):
            exponent = Fraction(1)
        case Operation("power", (Number(base), Number(exponent))):
            pass
        case _:
            return None
    if base.denominator != 1 or not 2 <= base < 10**8 or exponent.denominator != 1 or exponent < 1:
        return None
    number = base.numerator
    return number if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)) else None
