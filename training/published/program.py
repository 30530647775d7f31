"""Programs: solutions as steps of arithmetic over the results of earlier steps, and their text in the step format.

Every value is exact here. What the sandbox prints of a program decides whether it is right. Pure; never runs code.
"""

import ast
import builtins
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_LARGEST_EXPONENT = 10
_LONGEST_NAME = 24
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins)})


class Reason(StrEnum):
    """Why a published solution gives no program."""

    NO_COMPUTATION = "no_computation"
    """Nothing is computed, or what computes it has no known form."""
    FOREIGN_NUMBER = "foreign_number"
    """A number comes neither from the problem nor from an earlier step: it was worked out in the head."""
    LONG_DECIMAL = "long_decimal"
    """A number has more decimals than anybody would write: 0.3333333333333333."""
    NOT_WHOLE = "not_whole"
    """The answer is no whole number, in a data set whose other answers depend on how it rounds."""
    ANSWER_NOT_COMPUTED = "answer_not_computed"
    """No computation gives the published answer."""


class Refused(Exception):
    """The solution gives no program; `args` holds the reason."""

    @property
    def reason(self) -> Reason:
        """Why."""
        return Reason(self.args[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One line of code."""

    name: str
    expression: str
    """Arithmetic over numbers and the names of earlier assignments, as `ast.unparse` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStep:
    """A comment and the code below it."""

    comment: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A solution. Its last assignment is the answer."""

    steps: tuple[ProgramStep, ...]

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """All of them, in their order."""
        return tuple(assignment for step in self.steps for assignment in step.assignments)


def step_texts(program: Program) -> tuple[str, ...]:
    """The steps as the policy writes them; the last one also prints the answer.

    A whole number is printed as it is. Any other is printed with 12 digits, which hides the rounding of floats.
    """
    texts = [_step_text(step) for step in program.steps]
    answer = program.assignments[-1].name
    shown = answer if answer in _whole(program.assignments) else f"f'{{{answer}:.12g}}'"
    return (*texts[:-1], f"{texts[-1]}print({shown})\n")


def needed(steps: Sequence[ProgramStep], answer: str) -> Program:
    """The program that ends with the assignment of `answer`, without the assignments that it does not need."""
    kept: list[ProgramStep] = []
    wanted = {answer}
    for step in reversed(steps):
        assignments: list[Assignment] = []
        for assignment in reversed(step.assignments):
            if assignment.name in wanted:
                wanted |= names_in(parsed(assignment.expression))
                assignments.insert(0, assignment)
        if assignments:
            kept.insert(0, ProgramStep(comment=step.comment, assignments=tuple(assignments)))
    return Program(steps=tuple(kept))


def parsed(expression: str) -> ast.expr:
    """The tree of an arithmetic expression. Raises `Refused` where it is anything else."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Refused(Reason.NO_COMPUTATION) from error
    if not all(_is_arithmetic(node) for node in ast.walk(tree) if isinstance(node, ast.expr)):
        raise Refused(Reason.NO_COMPUTATION)
    return tree


def values(program: Program) -> dict[str, Fraction]:
    """The exact value of each assignment. Raises `ArithmeticError` where there is none."""
    found: dict[str, Fraction] = {}
    for assignment in program.assignments:
        found[assignment.name] = value_of(parsed(assignment.expression), found)
    return found


def value_of(tree: ast.expr, of: Mapping[str, Fraction]) -> Fraction:
    """The exact value of an expression, given those of its names. Raises `ArithmeticError` where there is none."""
    match tree:
        case ast.Constant(value=int() | float() as value):
            return Fraction(repr(value))
        case ast.Name(id=name):
            return of[name]
        case ast.UnaryOp(operand=operand):
            return -value_of(operand, of)
        case ast.Call(args=[rounded, ast.Constant(value=int() as digits)]):
            return round(value_of(rounded, of), digits)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(value_of(left, of), operator, value_of(right, of))
        case _:
            raise AssertionError(ast.dump(tree))


def literal(value: Fraction) -> ast.expr:
    """The expression of a number."""
    if value < 0:
        return ast.UnaryOp(op=ast.USub(), operand=literal(-value))
    return ast.Constant(value=int(value) if value.denominator == 1 else float(value))


def literals(tree: ast.expr) -> list[Fraction]:
    """The numbers that an expression names, in no particular order."""
    return [value_of(node, {}) for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def names_in(tree: ast.expr) -> set[str]:
    """The names that an expression reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != "round"}


def free_name(wishes: Iterable[str], taken: Iterable[str]) -> str:
    """The first wish that can be a variable and is free; else the first with a number."""
    used = {*taken, *_RESERVED}
    possible = [wish for wish in wishes if _PLAIN_NAME.fullmatch(wish) and len(wish) <= _LONGEST_NAME]
    free = next((wish for wish in possible if wish not in used), None)
    if free is not None:
        return free
    stem = next((wish for wish in possible if wish not in _RESERVED), "amount")
    number = 2
    while f"{stem}_{number}" in used:
        number += 1
    return f"{stem}_{number}" if stem in used else stem


def _step_text(step: ProgramStep) -> str:
    code = "".join(f"{assignment.name} = {assignment.expression}\n" for assignment in step.assignments)
    return f"\n# {step.comment}\n{code}"


def _whole(assignments: Iterable[Assignment]) -> set[str]:
    """The names whose values are of Python's type int."""
    whole: set[str] = set()
    for assignment in assignments:
        tree = parsed(assignment.expression)
        divides = any(isinstance(node, ast.Div | ast.Pow) for node in ast.walk(tree))
        if not divides and names_in(tree) <= whole and all(value.denominator == 1 for value in literals(tree)):
            whole.add(assignment.name)
    return whole


def _is_arithmetic(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.BinOp(op=operator):
            return isinstance(operator, _OPERATORS)
        case ast.UnaryOp(op=operator):
            return isinstance(operator, ast.USub)
        case ast.Call(func=ast.Name(id="round"), args=[_, ast.Constant(value=int())], keywords=[]):
            return True
        case ast.Name():
            return True
        case _:
            return False


def _combined(left: Fraction, operator: ast.operator, right: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow():
            if right.denominator != 1 or abs(right) > _LARGEST_EXPONENT:
                raise ArithmeticError(f"the exponent {right} is no small whole number")
            return left**right.numerator
        case _:
            raise AssertionError(ast.dump(operator))
