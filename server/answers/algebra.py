# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# (sympy's own annotations contradict what its constructors return)
"""Algebra: what takes a computer algebra system, by sympy and math-verify. Runs in the worker process only.

Builds sympy objects node by node from expressions; no text is ever handed to a parser. math-verify's own parser is
not used: it folds case (x and X, 3r² and 3R² become one), reads what it likes out of prose, and one of its routes
evaluates Python. Its grader is used, with two guards: a numeric evaluation that shows a difference overrules it, and
where neither shows anything the verdict is UNKNOWN.
"""

import logging

import sympy
from math_verify import verify
from sympy.core.random import seed

from search.outcomes import Verdict
from server.answers.exact import Uncomparable, exact, infinite_sign
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
    walk,
)
from server.answers.forms import Quantity, Sequence, Shape

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we, not it, watch the time

_DIGITS = 60
"""Decimal digits to which values must agree: far beyond what two different answers to one problem share by chance."""
_POSITIVE_POINTS = ((1237, 1), (389, 1))
"""Where expressions are evaluated: thousandths for the first letter, and the sign from each letter to the next. Such
fractions hit no special value of an ordinary answer by chance."""
_OTHER_POINTS = ((-731, 1), (-887, -1))
_UNKNOWN_BASE = sympy.Symbol("base of the logarithm", positive=True)

_CONSTANTS = {Constant.PI: sympy.pi, Constant.E: sympy.E, Constant.I: sympy.I, Constant.INFINITY: sympy.oo}
_FUNCTIONS = {
    Function.SIN: sympy.sin,
    Function.COS: sympy.cos,
    Function.TAN: sympy.tan,
    Function.COT: sympy.cot,
    Function.SEC: sympy.sec,
    Function.CSC: sympy.csc,
    Function.ARCSIN: sympy.asin,
    Function.ARCCOS: sympy.acos,
    Function.ARCTAN: sympy.atan,
    Function.SINH: sympy.sinh,
    Function.COSH: sympy.cosh,
    Function.TANH: sympy.tanh,
    Function.LN: sympy.log,
    Function.EXP: sympy.exp,
    Function.ABS: sympy.Abs,
    Function.FACTORIAL: sympy.factorial,
    Function.BINOMIAL: sympy.binomial,
}
_OPEN_ENDS = {
    Shape.OPEN: (True, True),
    Shape.CLOSED: (False, False),
    Shape.HALF_OPEN_LEFT: (True, False),
    Shape.HALF_OPEN_RIGHT: (False, True),
}


class SympyAlgebra:
    """`verdicts.Algebra` by sympy and math-verify."""

    def same(self, a: Expression, b: Expression) -> Verdict:
        verdict = _same(_built(a), _built(b))
        if verdict is Verdict.DIFFERENT and any(_has_unknown_base(side) for side in (a, b)):
            return Verdict.UNKNOWN  # log 100 is 2 in one book and 4.6 in another
        return verdict

    def same_relation(self, a: tuple[Expression, Expression], b: tuple[Expression, Expression], sign: str) -> Verdict:
        if not _is_bounded(*a, *b):
            return Verdict.UNKNOWN
        difference_a, difference_b = (_built(side[1]) - _built(side[0]) for side in (a, b))
        factor = sympy.cancel(difference_a / difference_b) if difference_b != 0 else sympy.nan
        if factor.is_Rational and factor != 0:
            is_turned = sign in "<≤" and factor < 0
            return Verdict.DIFFERENT if is_turned else Verdict.SAME
        letters = sorted(difference_a.free_symbols | difference_b.free_symbols, key=str)
        tried = [side.as_poly(*letters) if letters else None for side in (difference_a, difference_b)]
        polynomials = [found for found in tried if found is not None and found.get_domain() in (sympy.ZZ, sympy.QQ)]
        if len(polynomials) < 2:
            return Verdict.UNKNOWN if factor.free_symbols or not factor.is_number else _constant_factor(factor, sign)
        if sign in "<≤":
            is_linear = all(polynomial.total_degree() <= 1 for polynomial in polynomials)
            return Verdict.DIFFERENT if is_linear else Verdict.UNKNOWN
        # Two squarefree polynomials that are no multiples of each other vanish at different (complex) points.
        return Verdict.DIFFERENT if all(polynomial.is_sqf for polynomial in polynomials) else Verdict.UNKNOWN

    def same_region(self, a: tuple[Sequence, ...], b: tuple[Sequence, ...]) -> Verdict:
        region_a, region_b = _region(a), _region(b)
        if region_a is None or region_b is None:
            return Verdict.UNKNOWN
        if region_a == region_b:
            return Verdict.SAME
        match region_a.symmetric_difference(region_b).is_empty:
            case True:
                return Verdict.SAME
            case False:
                return Verdict.DIFFERENT
            case _:
                return Verdict.UNKNOWN


def warm_up() -> None:
    """Pays for the lazy imports and caches of the first comparison."""
    x = Symbol("x")
    SympyAlgebra().same(Sum((x, x)), Product((x, x)))
    SympyAlgebra().same(Root(Sum((x, x)), 2), Call(Function.SIN, (x,)))


def _is_bounded(*expressions: Expression) -> bool:
    try:
        for expression in expressions:
            exact(expression)
    except Uncomparable:
        return False
    return True


def _has_unknown_base(expression: Expression) -> bool:
    return any(
        isinstance(part, Call) and part.function is Function.LOG and len(part.arguments) == 1
        for part in walk(expression)
    )


def _built(expression: Expression) -> sympy.Expr:  # noqa: PLR0912 - one case for each kind of node
    match expression:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return sympy.Symbol(name, real=True)
        case Constant():
            return _CONSTANTS[expression]
        case Sum(terms):
            return sympy.Add(*map(_built, terms))
        case Product(factors):
            return sympy.Mul(*map(_built, factors))
        case Quotient(top, bottom):
            return _built(top) / _built(bottom)
        case Power(base, exponent):
            return sympy.Pow(_built(base), _built(exponent))
        case Root(radicand, index):
            inner = _built(radicand)
            if index % 2 and inner.is_negative:
                return -sympy.root(-inner, index)
            return sympy.root(inner, index)
        case Call(Function.LOG, arguments):
            value, base = [*map(_built, arguments), _UNKNOWN_BASE][:2]
            return sympy.log(value) / sympy.log(base)
        case Call(function, arguments):
            return _FUNCTIONS[function](*map(_built, arguments))


def _same(a: sympy.Expr, b: sympy.Expr) -> Verdict:
    seed(0)  # sympy tests some identities at random points
    if a == b:
        return Verdict.SAME
    difference = a - b
    positive = [_is_zero(difference, point) for point in _POSITIVE_POINTS]
    if False in positive:
        return Verdict.DIFFERENT
    if None in positive or not all(_is_zero(difference, point) for point in _OTHER_POINTS):
        return Verdict.UNKNOWN  # not computable, or equal only while the letters are positive
    is_proven = _verified(a, b) or _verified(b, a) or _verified(difference, sympy.Integer(0))
    return Verdict.SAME if is_proven else Verdict.UNKNOWN


def _verified(a: sympy.Expr, b: sympy.Expr) -> bool:
    return verify(a, b, numeric_precision=_DIGITS, timeout_seconds=None)


def _is_zero(difference: sympy.Expr, point: tuple[int, int]) -> bool | None:
    """Whether the difference vanishes at a sample point; None if that cannot be computed."""
    letters = sorted(difference.free_symbols, key=str)
    start, turn = point
    values = {letter: sympy.Rational(start * (7 + place) * turn**place, 7_000) for place, letter in enumerate(letters)}
    values = {letter: abs(value) if letter.is_positive else value for letter, value in values.items()}
    value = difference.subs(values)
    if value.is_Rational:
        return value == 0
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo):
        return None
    number = value.evalf(20, maxn=3 * _DIGITS)
    parts = number.as_real_imag()
    if not all(part.is_Float or part.is_Integer for part in parts):
        return None
    # sympy marks a result without a certain digit with precision 1, and has no public name for that.
    return all(part == 0 or (part.is_Float and part._prec == 1) for part in parts)  # noqa: SLF001


def _constant_factor(factor: sympy.Expr, sign: str) -> Verdict:
    """Equations that differ by an irrational factor such as √2."""
    if factor.is_finite and factor.is_nonzero and (sign in "=≠" or factor.is_positive):
        return Verdict.SAME
    return Verdict.UNKNOWN


def _region(items: tuple[Sequence, ...]) -> sympy.Set | None:
    parts: list[sympy.Set] = []
    for item in items:
        scalars = [_end(member.expression) for member in item.items if isinstance(member, Quantity)]
        if len(scalars) < len(item.items) or any(scalar is None for scalar in scalars):
            return None
        if item.shape is Shape.SET:
            parts.append(sympy.FiniteSet(*scalars))
        elif item.shape in _OPEN_ENDS and len(scalars) == 2:
            parts.append(sympy.Interval(*scalars, *_OPEN_ENDS[item.shape]))
        else:
            return None
    return sympy.Union(*parts)


def _end(expression: Expression) -> sympy.Expr | None:
    """A real number or an infinity."""
    if infinite_sign(expression):
        return infinite_sign(expression) * sympy.oo
    if not _is_bounded(expression):
        return None
    built = _built(expression)
    return built if built.is_number and built.is_real else None
