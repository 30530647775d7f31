"""Exact values: evaluates expressions over the Gaussian rationals (a + bi with rational a and b), in bounded time.

None means that the expression has no such value or that it takes algebra to find it (letters, surds, pi).
`Uncomparable` means that nobody should try: division by zero, a power tower, a root with no agreed value.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from operator import add, mul

from server.answers.expressions import (
    Call,
    Constant,
    Expression,
    Function,
    Number,
    Power,
    Product,
    Quotient,
    Root,
    Sum,
    Symbol,
    children,
)

MAX_BITS = 4_000
"""Longest integer a power may give: 1,200 digits, as many as an answer could write out."""
MAX_EXPONENT = 1_000
"""Largest exponent, factorial or root index; answers stay far below, and algebra slows down quickly above."""


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


_ONE = Gaussian(Fraction(1))


def exact(expression: Expression) -> Gaussian | None:
    """The exact value, None if algebra is needed; raises `Uncomparable`."""
    # Every part is evaluated, also beside a letter: a power tower anywhere must be found before algebra sees it.
    parts = [exact(child) for child in children(expression)]
    match expression:
        case Number(value):
            return Gaussian(value)
        case Constant.I:
            return Gaussian(Fraction(0), Fraction(1))
        case Constant.INFINITY:
            raise Uncomparable("infinity inside an expression")
        case Symbol() | Constant():
            return None
        case Power():
            return _power(parts[0], parts[1])
        case Root(_, index):
            return _root(parts[0], index)
        case Call(function):
            return _call(function, parts)
        case Sum() | Product() | Quotient():
            return _arithmetic(expression, parts)


def _arithmetic(expression: Sum | Product | Quotient, parts: list[Gaussian | None]) -> Gaussian | None:
    if isinstance(expression, Quotient) and parts[1] is not None:
        parts = [parts[0], parts[1].inverse()]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if sum(part.bits() for part in known) > MAX_BITS:
        raise Uncomparable("number too long")
    operation = add if isinstance(expression, Sum) else mul
    value = known[0]
    for part in known[1:]:
        value = operation(value, part)
    return value


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
    if power.denominator != 1:
        if base.im == 0 and base.re < 0 and power.denominator > 2:
            # (-8)^(1/3) is -2 to one reader and 1 + 1.73i to another.
            raise Uncomparable("fractional power of a negative number")
        root = _root(base, power.denominator)
        return None if root is None else _integer_power(root, power.numerator)
    return _integer_power(base, power.numerator)


def _integer_power(base: Gaussian, power: int) -> Gaussian:
    if base.bits() * abs(power) > MAX_BITS:
        raise Uncomparable("power too large")
    if base.im == 0:
        return Gaussian(base.re**power)
    value, square, remaining = _ONE, base, abs(power)
    while remaining:
        if remaining % 2:
            value = value * square
        square, remaining = square * square, remaining // 2
    return value if power >= 0 else value.inverse()


def _root(radicand: Gaussian | None, index: int) -> Gaussian | None:
    if index > MAX_EXPONENT:
        raise Uncomparable("root index too large")
    if radicand is None or radicand.im != 0:
        return None
    root = _rational_root(abs(radicand.re), index)
    if root is None:
        return None
    if radicand.re >= 0:
        return Gaussian(root)
    if index % 2:
        return Gaussian(-root)
    return Gaussian(Fraction(0), root) if index == 2 else None


def _rational_root(value: Fraction, index: int) -> Fraction | None:
    top, bottom = _integer_root(value.numerator, index), _integer_root(value.denominator, index)
    return None if top is None or bottom is None else Fraction(top, bottom)


def _integer_root(value: int, index: int) -> int | None:
    """The exact root, by Newton's method from above; None if it is not an integer."""
    if value == 0:
        return 0
    root = 1 << (value.bit_length() // index + 1)
    while (better := ((index - 1) * root + value // root ** (index - 1)) // index) < root:
        root = better
    return root if root**index == value else None


def _call(function: Function, parts: list[Gaussian | None]) -> Gaussian | None:
    known = [part.re for part in parts if part is not None and part.im == 0]
    if len(known) < len(parts):
        return None
    match function:
        case Function.ABS:
            return Gaussian(abs(known[0]))
        case Function.FACTORIAL:
            return Gaussian(Fraction(math.factorial(_small_natural(known[0]))))
        case Function.BINOMIAL:
            return Gaussian(Fraction(math.comb(_small_natural(known[0]), _small_natural(known[1]))))
        case _:
            return None


def _small_natural(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= MAX_EXPONENT:
        raise Uncomparable("not a natural number within bounds")
    return value.numerator


def infinite_sign(expression: Expression) -> int:
    """1 for infinity, -1 for minus infinity, 0 for everything else."""
    match expression:
        case Constant.INFINITY:
            return 1
        case Product((Number(value), Constant.INFINITY)) if abs(value) == 1:
            return value.numerator
        case _:
            return 0


def prime_factors(expression: Expression) -> dict[int, int] | None:
    """Prime → exponent, where the expression is a written-out product of prime powers, at least two different primes.

    Such a product is an answer about form: 2 × 2 × 3 answers another question than 12 or 2 × 6. A power of one prime is
    left to its value, so that 2^10 stays 1024.
    """
    if not isinstance(expression, Product) or not expression.is_explicit:
        return None
    factors: dict[int, int] = {}
    for factor in expression.factors:
        match factor:
            case Number(value):
                base, exponent = value, Fraction(1)
            case Power(Number(base), Number(exponent)):
                pass
            case _:
                return None
        if not _is_prime(base) or exponent.denominator != 1 or exponent < 1:
            return None
        factors[base.numerator] = factors.get(base.numerator, 0) + exponent.numerator
    return factors if len(factors) > 1 else None


def _is_prime(value: Fraction) -> bool:
    """Trial division; numbers from 10^8 count as not prime, to stay cheap (10^4 divisions)."""
    number = value.numerator
    if value.denominator != 1 or not 2 <= number < 10**8:
        return False
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
