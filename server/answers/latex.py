r"""LaTeX: an answer as it is displayed. Programs print `3*x**2/7`; people read `\frac{3 x^{2}}{7}`.

Reads Python's syntax and evaluates nothing. An answer that is no plain Python expression, such as LaTeX, is unchanged.
"""

import ast
import re

MAX_CHARS = 2000
"""Longer answers stay unchanged, as they are too long to be read."""

_ADD, _MULTIPLY, _NEGATE, _POWER, _ATOM = range(5)
"""Binding strength of a piece; a piece gets brackets where its place needs a stronger one."""

_CONSTANTS = {"pi": r"\pi", "oo": r"\infty", "inf": r"\infty", "I": "i", "E": "e"}
_NOT_PLAIN = "not a plain expression"
_NAME = re.compile(r"[A-Za-z]\d*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "gcd", "max", "min"}
_BRACKETS = {ast.Tuple: (r"\left(", r"\right)"), ast.List: (r"\left[", r"\right]"), ast.Set: (r"\left\{", r"\right\}")}


def latex(answer: str) -> str:
    """`answer` as LaTeX without dollar signs."""
    if len(answer) > MAX_CHARS or "\\" in answer:
        return answer
    try:
        expression = ast.parse(answer.strip(), mode="eval").body
        for node in ast.walk(expression):
            if isinstance(node, ast.Constant):
                node.kind = ast.get_source_segment(answer.strip(), node)
        return _piece(expression)[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return answer


def _piece(node: ast.expr) -> tuple[str, int]:
    """LaTeX, and how tightly it holds together."""
    match node:
        case ast.Constant():
            return _number(node.kind or ""), _ATOM
        case ast.Name(id=name):
            return _named(name), _ATOM
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_within(operand, _NEGATE)}", _NEGATE
        case ast.BinOp(left=left, op=op, right=right):
            return _operation(left, op, right)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items) if items:
            opening, closing = _BRACKETS[type(node)]
            return f"{opening}{', '.join(_piece(item)[0] for item in items)}{closing}", _ATOM
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if arguments:
            return _call(name, [_piece(argument)[0] for argument in arguments]), _ATOM
        case _:
            raise ValueError(_NOT_PLAIN)


def _operation(left: ast.expr, op: ast.operator, right: ast.expr) -> tuple[str, int]:
    match op:
        case ast.Add() | ast.Sub():
            sign = "+" if isinstance(op, ast.Add) else "-"
            return f"{_within(left, _ADD)} {sign} {_within(right, _MULTIPLY)}", _ADD
        case ast.Mult():
            first, second = _within(left, _MULTIPLY), _within(right, _POWER)
            between = r" \cdot " if second[0].isdigit() else " "
            return f"{first}{between}{second}", _MULTIPLY
        case ast.Div():
            return rf"\frac{{{_piece(left)[0]}}}{{{_piece(right)[0]}}}", _MULTIPLY
        case ast.Pow():
            return f"{_within(left, _ATOM)}^{{{_piece(right)[0]}}}", _POWER
        case _:
            raise ValueError(_NOT_PLAIN)


def _within(node: ast.expr, needed: int) -> str:
    text, holds = _piece(node)
    return text if holds >= needed else rf"\left({text}\right)"


def _number(spelling: str) -> str:
    """As it was spelt: 1.50 keeps its zero."""
    if not _NUMBER.fullmatch(spelling):
        raise ValueError(_NOT_PLAIN)
    mantissa, _, exponent = spelling.lower().partition("e")
    return mantissa if not exponent else rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


def _named(name: str) -> str:
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if not _NAME.fullmatch(name):
        raise ValueError(_NOT_PLAIN)
    return name if len(name) == 1 else f"{name[0]}_{{{name[1:]}}}"


def _call(name: str, arguments: list[str]) -> str:
    match name, arguments:
        case "sqrt", [argument]:
            return rf"\sqrt{{{argument}}}"
        case "abs" | "Abs", [argument]:
            return rf"\left|{argument}\right|"
        case "Rational" | "Fraction", [numerator, denominator]:
            return rf"\frac{{{numerator}}}{{{denominator}}}"
        case _ if name in _FUNCTIONS:
            return rf"\{name}\left({', '.join(arguments)}\right)"
        case _:
            raise ValueError(_NOT_PLAIN)
