"""Equations in one unknown, solved for it as a formula over their numbers. Pure."""

import ast
from collections.abc import Mapping
from fractions import Fraction

from training.published.program import Reason, Refused, literal, names_in, parsed, value_of

_ONE = literal(Fraction(1))
_UNDOES: Mapping[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
}


def solved(equation: str) -> tuple[str, ast.expr]:
    """The unknown and what it equals: `17 + 48 = x`, `14 + X = 46`, `3 * n + 2 = 5 * n`; or `x` of a bare formula.

    Raises `Refused` where there are several unknowns, none to solve for, or one that is not linear.
    """
    sides = [parsed(side) for side in equation.split("=")]
    unknown = sorted(set[str]().union(*map(names_in, sides)))
    match sides, unknown:
        case [tree], []:
            return "x", tree
        case [left, right], [name]:
            occurrences = [node for side in sides for node in ast.walk(side) if isinstance(node, ast.Name)]
            if len(occurrences) == 1:
                return name, _inverted(left, right) if names_in(left) else _inverted(right, left)
            return name, _linear(left, right)
        case _:
            raise Refused(Reason.NO_COMPUTATION)


def _inverted(tree: ast.expr, value: ast.expr) -> ast.expr:
    """What the one unknown in a tree is, if the tree has a value."""
    match tree:
        case ast.Name():
            return value
        case ast.UnaryOp(operand=operand):
            return _inverted(operand, ast.UnaryOp(op=ast.USub(), operand=value))
        case ast.BinOp(left=left, op=operator, right=right) if names_in(left) and type(operator) in _UNDOES:
            return _inverted(left, _of(value, _UNDOES[type(operator)], right))
        case ast.BinOp(left=left, op=ast.Add() | ast.Mult() as operator, right=right):
            return _inverted(right, _of(value, _UNDOES[type(operator)], left))
        case ast.BinOp(left=left, op=ast.Sub() | ast.Div() as operator, right=right):
            return _inverted(right, _of(left, operator, value))
        case _:
            raise Refused(Reason.NO_COMPUTATION)


def _linear(left: ast.expr, right: ast.expr) -> ast.expr:
    """The unknown of `a * x + b = c * x + d`, with a positive divisor."""
    (a, b), (c, d) = _terms(left), _terms(right)
    slope = _minus(a, c)
    if slope is None or value_of(slope, {}) == 0:
        raise Refused(Reason.NO_COMPUTATION)
    if value_of(slope, {}) < 0:
        slope, b, d = _minus(c, a), d, b
    constant = _minus(d, b)
    assert slope is not None
    return _of(constant or literal(Fraction(0)), ast.Div(), slope)


_Term = ast.expr | None
"""None is zero."""


def _terms(tree: ast.expr) -> tuple[_Term, _Term]:
    """The factor of the unknown, and what has no unknown."""
    if not names_in(tree):
        return None, tree
    match tree:
        case ast.Name():
            return _ONE, None
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            (a, b), (c, d) = _terms(left), _terms(right)
            return _plus(a, c), _plus(b, d)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            (a, b), (c, d) = _terms(left), _terms(right)
            return _minus(a, c), _minus(b, d)
        case ast.BinOp(left=left, op=ast.Mult() as operator, right=right) if not (names_in(left) and names_in(right)):
            factor, terms = (right, _terms(left)) if names_in(left) else (left, _terms(right))
            return _scaled(terms[0], operator, factor), _scaled(terms[1], operator, factor)
        case ast.BinOp(left=left, op=ast.Div() as operator, right=right) if not names_in(right):
            slope, constant = _terms(left)
            return _scaled(slope, operator, right), _scaled(constant, operator, right)
        case _:
            raise Refused(Reason.NO_COMPUTATION)


def _of(left: ast.expr, operator: ast.operator, right: ast.expr) -> ast.expr:
    return ast.BinOp(left=left, op=operator, right=right)


def _plus(one: _Term, other: _Term) -> _Term:
    return one if other is None else other if one is None else _of(one, ast.Add(), other)


def _minus(one: _Term, other: _Term) -> _Term:
    if isinstance(other, ast.UnaryOp):
        return _plus(one, other.operand)
    if one is None:
        return None if other is None else ast.UnaryOp(op=ast.USub(), operand=other)
    return one if other is None else _of(one, ast.Sub(), other)


def _scaled(term: _Term, operator: ast.operator, factor: ast.expr) -> _Term:
    if term is _ONE and isinstance(operator, ast.Mult):
        return factor
    return None if term is None else _of(term, operator, factor)
