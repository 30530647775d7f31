"""Formulae: the equations of MAWPS, the worked lines of AWPC and the programs of MathQA, as step programs.

None of them comes with sentences. A formula is cut into steps of at most three operands, and a comment says each step
in words, with what the problem counts: `Add 4 hens and 3 ducks, then multiply by 2`. Pure.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from training.published.equations import solved
from training.published.numerals import CONVENTIONS, NUMBER, Numeral, known, number, numerals
from training.published.program import (
    Assignment,
    Program,
    ProgramStep,
    Reason,
    Refused,
    free_name,
    literal,
    literals,
    parsed,
    value_of,
    values,
)
from training.published.sentences import noun_behind

_Lines = Sequence[tuple[str, ast.expr]]
"""Names and what they stand for, over the names of earlier lines. The last is the answer."""

_MOST_OPERANDS, _MOST_SUMMANDS = 3, 5
"""Of one step: `(4 + 3) * 2` is still said in one breath."""
_MOST_DECIMALS = 4
_NAMES: Mapping[type[ast.operator], str] = {
    ast.Add: "total",
    ast.Sub: "difference",
    ast.Mult: "product",
    ast.Div: "share",
    ast.Pow: "power",
}
_ASKED = re.compile(r"\bhow many\b", re.IGNORECASE)
_WORKED = {
    ast.Add: re.compile(r"\+|\bplus\b|\badd", re.IGNORECASE),
    ast.Mult: re.compile(r"[×*]|\bmultipl|\btimes\b", re.IGNORECASE),
    ast.Div: re.compile(r"[÷/]|\bdivid", re.IGNORECASE),
    ast.Sub: re.compile(r"-|\bminus\b|\bsubtract|\btaking away\b", re.IGNORECASE),
}
"""How a line of AWPC names its operation."""
_PERCENT = re.compile(r"\s?(?:%|percent|per cent)")
_LEAST = re.compile(r"min\(([^(),]+), \d+\)")
"""MathQA bounds its exponents."""


def mawps_program(question: str, equation: str) -> Program:
    """The program that solves an equation in one unknown: `(17+48)-49=x`, `14 + X = 46`. Raises `Refused`."""
    name, tree = solved(equation)
    return _program(question, [(name.casefold(), tree)])


def awpc_program(question: str, solution: str, answer: str) -> Program:
    """The program of worked lines, each with an operation on the last result: `41 tons + 3 → 44`. Raises `Refused`."""
    tree: ast.expr | None = None
    result: Fraction | None = None
    for line in solution.splitlines():
        stated = [number(found) for found in re.findall(NUMBER, line)]
        operator = next((operator() for operator, sign in _WORKED.items() if sign.search(line)), None)
        if operator is None or len(stated) != 3:
            continue
        left, right = (stated[1], stated[0]) if result == stated[1] or " from " in line else (stated[0], stated[1])
        if result not in (None, left):
            raise Refused(Reason.FOREIGN_NUMBER)
        tree = ast.BinOp(left=literal(left) if tree is None else tree, op=operator, right=literal(right))
        result = stated[2]
    if tree is None:
        raise Refused(Reason.NO_COMPUTATION)
    if _value(tree) != number(answer):
        raise Refused(Reason.ANSWER_NOT_COMPUTED)
    return _program(question, [("x", tree)])


def mathqa_program(question: str, program: str) -> Program:
    """The program over the numbers `n0`, `n1` of the problem and the results `t0`, `t1`. Raises `Refused`."""
    stated: dict[str, ast.expr] = {}
    lines: list[tuple[str, ast.expr]] = []
    for name, sign, expression in (line.partition(" = ") for line in program.splitlines()):
        if sign:
            if _combines_constants(parsed(_LEAST.sub(r"\1", expression))):  # 10 * 100 * 2 * 4, for 8000
                raise Refused(Reason.FOREIGN_NUMBER)
            tree = _replaced(parsed(_LEAST.sub(r"\1", expression)), stated)
            if isinstance(tree, ast.Constant):
                stated[name] = tree
            else:
                lines.append((name, tree))
    return _program(question, _inlined(lines))


def _combines_constants(tree: ast.expr) -> bool:
    return isinstance(tree, ast.BinOp) and isinstance(tree.left, ast.Constant) and isinstance(tree.right, ast.Constant)


def _program(question: str, lines: _Lines) -> Program:
    """The lines as steps in words."""
    writer = _Writer(question)
    renamed: dict[str, ast.expr] = {}
    for name, tree in lines:
        if not isinstance(tree, ast.BinOp):
            raise Refused(Reason.NO_COMPUTATION)
        wishes = [name] if name != lines[-1][0] else [*_asked(question), name]
        renamed[name] = writer.assign(_replaced(_Tidy().visit(tree), renamed), wishes)
    if not writer.steps:
        raise Refused(Reason.NO_COMPUTATION)
    program = Program(steps=tuple(writer.steps))
    try:
        values(program)
    except ArithmeticError as error:
        raise Refused(Reason.ANSWER_NOT_COMPUTED) from error
    return program


class _Tidy(ast.NodeTransformer):
    """Whole numbers without a point, and percentages as `x * 15 / 100`."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return literal(value_of(node, {}))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Mult):
            for one, other in ((left, right), (right, left)):
                match other:
                    case ast.Constant() if _is(other, Fraction(1, 100)):
                        return ast.BinOp(left=one, op=ast.Div(), right=literal(Fraction(100)))
                    case ast.BinOp(left=ast.Constant() as part, op=ast.Div(), right=hundred) if _is(
                        hundred, Fraction(100)
                    ):
                        product = ast.BinOp(left=one, op=ast.Mult(), right=part)
                        return ast.BinOp(left=product, op=ast.Div(), right=hundred)
                    case _:
                        pass
        return ast.BinOp(left=left, op=node.op, right=right)


class _Writer:
    """Writes trees as steps."""

    def __init__(self, question: str) -> None:
        self.steps: list[ProgramStep] = []
        self._question = question
        self._known = known(question) | CONVENTIONS

    def assign(self, tree: ast.expr, wishes: Sequence[str]) -> ast.Name:
        """Add the steps of a tree; its name, which is one of the wishes or says how it came about."""
        numbers = literals(tree)
        if any(value not in self._known for value in numbers):
            raise Refused(Reason.FOREIGN_NUMBER)
        if any((10**_MOST_DECIMALS * value).denominator != 1 for value in numbers):
            raise Refused(Reason.LONG_DECIMAL)
        small = self._small(tree)
        said = _said(small, self._question)
        own = _NAMES[type(small.op)] if isinstance(small, ast.BinOp) else "amount"
        taken = [assignment.name for step in self.steps for assignment in step.assignments]
        name = free_name([*(wish for wish in wishes if len(wish) > 2), own], taken)
        assignment = Assignment(name=name, expression=ast.unparse(small))
        self.steps.append(ProgramStep(comment=said[0].upper() + said[1:], assignments=(assignment,)))
        return ast.Name(id=name)

    def _small(self, tree: ast.expr) -> ast.expr:
        """The tree with few operands; larger parts of it become steps of their own."""
        match tree:
            case ast.BinOp(left=left, op=operator, right=right):
                left, right = self._small(left), self._small(right)
                while not _is_small(ast.BinOp(left=left, op=operator, right=right)):
                    if _operands(left) >= _operands(right):
                        left = self.assign(left, [])
                    else:
                        right = self.assign(right, [])
                return ast.BinOp(left=left, op=operator, right=right)
            case ast.UnaryOp(operand=ast.BinOp() as operand):
                return ast.UnaryOp(op=ast.USub(), operand=self.assign(operand, []))
            case _:
                return tree


def _is_small(tree: ast.expr) -> bool:
    return _operands(tree) <= (_MOST_SUMMANDS if _summands(tree) == _operands(tree) else _MOST_OPERANDS)


def _operands(tree: ast.expr) -> int:
    return _operands(tree.left) + _operands(tree.right) if isinstance(tree, ast.BinOp) else 1


def _summands(tree: ast.expr) -> int:
    match tree:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _summands(left) + _summands(right)
        case _:
            return 1


def _said(tree: ast.expr, question: str) -> str:
    """A step in words, in the order in which one would work it out."""
    match tree:
        case ast.BinOp(left=ast.BinOp(left=left, op=ast.Mult(), right=right), op=ast.Div(), right=hundred) if _is(
            hundred, Fraction(100)
        ) and (_is_percentage(left, question) or _is_percentage(right, question)):
            part, whole = (right, left) if _is_percentage(right, question) else (left, right)
            return f"take {_named(part, question)} of {_named(whole, question)}"
        case ast.BinOp() if _summands(tree) == _operands(tree):
            *first, last = (_named(summand, question) for summand in _in_order(tree))
            return f"add {', '.join(first)} and {last}"
        case ast.BinOp(left=ast.BinOp() as left, op=operator, right=right):
            return f"{_said(left, question)}, then {_then(operator, _named(right, question))}"
        case ast.BinOp(left=left, op=operator, right=ast.BinOp() as right):
            return f"{_said(right, question)}, then {_then_of(operator, _named(left, question))}"
        case ast.BinOp(left=left, op=operator, right=right):
            return _both(operator, _named(left, question), _named(right, question))
        case _:
            return f"take {_named(tree, question)}"


def _in_order(tree: ast.expr) -> list[ast.expr]:
    return [*_in_order(tree.left), *_in_order(tree.right)] if isinstance(tree, ast.BinOp) else [tree]


def _both(operator: ast.operator, left: str, right: str) -> str:
    match operator:
        case ast.Add():
            return f"add {left} and {right}"
        case ast.Sub():
            return f"subtract {right} from {left}"
        case ast.Mult():
            return f"multiply {left} by {right}"
        case ast.Div():
            return f"divide {left} by {right}"
        case _:
            return f"raise {left} to the power {right}"


def _then(operator: ast.operator, other: str) -> str:
    match operator:
        case ast.Add():
            return f"add {other}"
        case ast.Sub():
            return f"subtract {other}"
        case ast.Mult():
            return f"multiply by {other}"
        case ast.Div():
            return f"divide by {other}"
        case _:
            return f"raise to the power {other}"


def _then_of(operator: ast.operator, other: str) -> str:
    match operator:
        case ast.Add() | ast.Mult():
            return _then(operator, other)
        case _:
            return _both(operator, other, "the result")


def _named(tree: ast.expr, question: str) -> str:
    """`4 hens`, where the problem counts 4 hens, and `the total` of a variable."""
    if isinstance(tree, ast.Name):
        return f"the {tree.id.replace('_', ' ')}"
    if isinstance(tree, ast.UnaryOp):
        return f"minus {_named(tree.operand, question)}"
    text = ast.unparse(tree)
    nouns = {_counted(question, one) for one in numerals(question) if one.value == value_of(tree, {})}
    noun = nouns.pop() if len(nouns) == 1 else None
    return f"{text} {noun.replace('_', ' ')}" if noun else text


def _counted(question: str, numeral: Numeral) -> str | None:
    """What the problem counts by a number."""
    if _PERCENT.match(question, numeral.end):
        return "percent"
    return "dollars" if question[: numeral.start].rstrip().endswith("$") else noun_behind(question[numeral.end :])


def _is_percentage(tree: ast.expr, question: str) -> bool:
    return isinstance(tree, ast.Constant) and _named(tree, question).endswith("percent")


def _asked(question: str) -> list[str]:
    found = list(_ASKED.finditer(question))
    noun = noun_behind(question[found[-1].end() :]) if found else None
    return [noun] if noun else []


def _is(tree: ast.expr, value: Fraction) -> bool:
    return isinstance(tree, ast.Constant) and value_of(tree, {}) == value


def _value(tree: ast.expr) -> Fraction | None:
    try:
        return value_of(tree, {})
    except ArithmeticError:
        return None


class _Replace(ast.NodeTransformer):
    def __init__(self, by_name: Mapping[str, ast.expr]) -> None:
        self._by_name = by_name

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._by_name.get(node.id, node)


def _replaced(tree: ast.expr, by_name: Mapping[str, ast.expr]) -> ast.expr:
    """The tree with expressions in place of names."""
    return _Replace(by_name).visit(tree)


def _inlined(lines: _Lines) -> list[tuple[str, ast.expr]]:
    """The lines without those that only one other uses, which are put into it."""
    uses = [node.id for _, tree in lines for node in ast.walk(tree) if isinstance(node, ast.Name)]
    kept: list[tuple[str, ast.expr]] = []
    used_once: dict[str, ast.expr] = {}
    for name, tree in lines:
        whole = _replaced(tree, used_once)
        if uses.count(name) == 1:
            used_once[name] = whole
        elif name == lines[-1][0] or uses.count(name):
            kept.append((name, whole))
    return kept
