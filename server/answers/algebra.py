# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# (sympy's own annotations contradict what its constructors return)
"""Algebra: decides with sympy and math-verify what exact arithmetic cannot. Runs in the worker process only.

Builds sympy objects node by node from expressions; no text ever reaches a parser. math-verify's own parser is not used:
it folds case (x and X, 3r² and 3R² become one), finds answers in prose, and one of its routes evaluates Python. Its
grader is used with two guards: a numeric evaluation that shows a difference overrules it, and where neither shows
anything the verdict is UNKNOWN.
"""

import logging
from operator import truediv

import sympy
from math_verify import verify
from sympy.core.random import seed

from search import Verdict
from server.answers.exact import Uncomparable, exact, infinite_sign
from server.answers.terms import Constant, Expression, Form, Number, Operation, Quantity, Sequence, Shape, Symbol, walk

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we, not it, watch the time

_DIGITS = 60
"""Decimal digits to which values must agree: far beyond what two different answers to one problem share by chance."""
_POSITIVE_POINTS = ((1237, 1), (389, 1))
"""Where expressions are evaluated: thousandths for the first letter, and the sign from each letter to the next. Such
fractions hit no special value of an ordinary answer by chance."""
_OTHER_POINTS = ((-731, 1), (-887, -1))
_UNKNOWN_BASE = sympy.Symbol("base of the logarithm", positive=True)


def _root(radicand: sympy.Expr, index: sympy.Integer) -> sympy.Expr:
    if index % 2 and radicand.is_negative:
        return -sympy.root(-radicand, index)
    return sympy.root(radicand, index)


def _logarithm(value: sympy.Expr, base: sympy.Expr = _UNKNOWN_BASE) -> sympy.Expr:
    return sympy.log(value) / sympy.log(base)


_CONSTANTS = {Constant.PI: sympy.pi, Constant.E: sympy.E, Constant.I: sympy.I, Constant.INFINITY: sympy.oo}
_OPERATORS = {
    "sum": sympy.Add,
    "product": sympy.Mul,
    "written product": sympy.Mul,
    "quotient": truediv,
    "power": sympy.Pow,
    "root": _root,
    "abs": sympy.Abs,
    "factorial": sympy.factorial,
    "binomial": sympy.binomial,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "cot": sympy.cot,
    "sec": sympy.sec,
    "csc": sympy.csc,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "ln": sympy.log,
    "exp": sympy.exp,
    "log": _logarithm,
}
_OPEN_ENDS = {
    Shape.OPEN: (True, True),
    Shape.CLOSED: (False, False),
    Shape.HALF_OPEN_LEFT: (True, False),
    Shape.HALF_OPEN_RIGHT: (False, True),
}


class SympyAlgebra:
    """`rules.Algebra` by sympy and math-verify."""

    def same(self, a: Expression, b: Expression) -> Verdict:
        verdict = _same(_built(a), _built(b))
        operations = [part for part in (*walk(a), *walk(b)) if isinstance(part, Operation)]
        # log 100 is 2 in one book and 4.6 in another.
        is_base_unknown = any(part.operator == "log" and len(part.operands) == 1 for part in operations)
        return Verdict.UNKNOWN if verdict is Verdict.DIFFERENT and is_base_unknown else verdict

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
            # Equations may differ by an irrational factor such as √2.
            is_constant = factor.is_number and factor.is_finite and factor.is_nonzero
            is_kept = is_constant and (sign in "=≠" or factor.is_positive)
            return Verdict.SAME if is_kept else Verdict.UNKNOWN
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
        is_empty = region_a.symmetric_difference(region_b).is_empty
        return {True: Verdict.SAME, False: Verdict.DIFFERENT}.get(is_empty, Verdict.UNKNOWN)


def _is_bounded(*expressions: Expression) -> bool:
    try:
        for expression in expressions:
            exact(expression)
    except Uncomparable:
        return False
    return True


def _built(expression: Expression) -> sympy.Expr:
    match expression:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return sympy.Symbol(name, real=True)
        case Constant():
            return _CONSTANTS[expression]
        case Operation(operator, operands):
            return _OPERATORS[operator](*map(_built, operands))


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


def _region(items: tuple[Sequence, ...]) -> sympy.Set | None:
    parts: list[sympy.Set] = []
    for item in items:
        ends = [_end(member) for member in item.items]
        if None in ends:
            return None
        if item.shape is Shape.SET:
            parts.append(sympy.FiniteSet(*ends))
        elif item.shape in _OPEN_ENDS and len(ends) == 2:
            parts.append(sympy.Interval(*ends, *_OPEN_ENDS[item.shape]))
        else:
            return None
    return sympy.Union(*parts)


def _end(form: Form) -> sympy.Expr | None:
    """A real number or an infinity."""
    if not isinstance(form, Quantity):
        return None
    if sign := infinite_sign(form.expression):
        return sign * sympy.oo
    built = _built(form.expression) if _is_bounded(form.expression) else sympy.nan
    return built if built.is_number and built.is_real else None
