"""GSM8K: solutions in sentences, whose computations are marked `<<48/2=24>>` or at least written `48/2 = 24`.

Each sentence with a computation becomes a step. Its code is the computation, in which the results of earlier sentences
are variables. Its comment is the sentence without expressions and results: nothing is left to be computed in the head.
Pure.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from training.published.numerals import CONVENTIONS, NUMBER, known, number, numerals
from training.published.program import (
    Assignment,
    Program,
    ProgramStep,
    Reason,
    Refused,
    free_name,
    literal,
    needed,
    parsed,
    value_of,
)
from training.published.sentences import comment_of, name_wishes

_NUM = rf"(?>\$?\s?(?:{NUMBER})%?)"
_UNITS = r"(?>(?:\s?/?(?![xX][\s$\d.(])[A-Za-z]+(?:['/-][A-Za-z]+)*){0,4})"
_OPERAND = rf"(?>\(*{_NUM}{_UNITS}\)*)"
_OPERATOR = r"(?>\s*(?:[-+*/×÷−–]|[xX](?=[\s$\d.(]))\s*|(?<=[\d)])(?=\())"
_EXPRESSION = rf"(?>{_OPERAND}(?:{_OPERATOR}{_OPERAND})+)"
_CHAIN = rf"(?>{_EXPRESSION}(?:\s*=\s*{_EXPRESSION})*)"
_COMPUTATION = re.compile(
    rf"(?:(?P<shown>{_CHAIN})\s*=?\s*)?\$?\s*<<(?P<marked>[^<>]*)=(?P<result>[^<>=]*)>>\s*(?:\$?\s?(?:{NUMBER}))?%?"
    rf"|(?P<written>{_CHAIN})\s*=\s*\$?\s?(?P<stated>{NUMBER})%?(?![\d]|\.\d|\s*[-+*/×÷=<])"
)
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "$": "", ",": ""})
_IMPLIED = re.compile(r"(?<=[\d)])\s*(?=\()")
_LETTERS = re.compile(r"(?<![\w])[xX](?=[\s$\d.(])|/?[A-Za-z][A-Za-z'-]*")
_PERCENT = re.compile(rf"({NUMBER})%")


def gsm8k_program(question: str, solution: str, answer: str) -> Program:
    """The program of a solution. Raises `Refused`."""
    reader = _Reader(question)
    for line in solution.splitlines():
        reader.read(line)
    return reader.program(number(answer))


@dataclass(slots=True)
class _Result:
    """What a computation gave."""

    name: str
    value: Fraction
    """As published: rounded, where the solution rounds."""
    is_foreign: bool
    """Whether the computation uses a number from nowhere."""
    is_used: bool = False


class _Reader:
    """Reads a solution line by line."""

    def __init__(self, question: str) -> None:
        self._known = known(question)
        self._has_percentages = "%" in question or "percent" in question
        self._results: list[_Result] = []
        self._steps: list[ProgramStep] = []

    def read(self, sentence: str) -> None:
        """Add the step of one sentence, if it computes something."""
        found = list(_COMPUTATION.finditer(sentence))
        if not found:
            return
        ends = [*(match.start() for match in found[1:]), len(sentence)]
        computed = [
            self._compute(match, sentence[: match.start()], sentence[match.end() : end])
            for match, end in zip(found, ends, strict=True)
        ]
        assignments = tuple(assignment for assignment in computed if assignment is not None)
        if assignments:
            comment = comment_of(
                sentence,
                [match.span() for match in found],
                results={result.value: result.name for result in self._results},
                stated=self._known,
            )
            comment = comment or f"Work out the {assignments[-1].name.replace('_', ' ')}"
            self._steps.append(ProgramStep(comment=comment, assignments=assignments))

    def program(self, answer: Fraction) -> Program:
        """The program that ends with the last computation of the answer."""
        if not self._results:
            raise Refused(Reason.NO_COMPUTATION)
        last = next((result for result in reversed(self._results) if result.value == answer), None)
        if last is None:
            raise Refused(Reason.ANSWER_NOT_COMPUTED)
        program = needed(self._steps, last.name)
        foreign = {result.name for result in self._results if result.is_foreign}
        if any(assignment.name in foreign for assignment in program.assignments):
            raise Refused(Reason.FOREIGN_NUMBER)
        return program

    def _compute(self, match: re.Match[str], before: str, after: str) -> Assignment | None:
        """The assignment of one computation; None where it computes nothing."""
        result = _result(match)
        tree = _tree(match)
        if tree is None or result is None:
            return None
        binding = _Binding(self._known, self._results, has_percentages=self._has_percentages)
        bound = binding.visit(tree)
        names = [one.name for one in self._results]
        said = next((numeral.end for numeral in numerals(before) if numeral.value == result), None)
        if said is not None:  # she has 12 apples because <<5+7=12>>
            before, after = before[:said], before[said:]
        name = free_name(name_wishes(before, after, is_money="$" in match[0]), names)
        self._results.append(_Result(name=name, value=result, is_foreign=binding.is_foreign))
        return Assignment(name=name, expression=ast.unparse(bound))


def _result(match: re.Match[str]) -> Fraction | None:
    found = numerals(match["result"] or match["stated"])
    return found[0].value if len(found) == 1 else None


def _tree(match: re.Match[str]) -> ast.expr | None:
    """The expression; None where nothing is computed, or the solution computes otherwise than Python would."""
    for expression in (match["marked"], match["shown"], match["written"]):
        for of_hundred in ("/100", ""):
            tree = None if expression is None else _arithmetic(expression, of_hundred)
            if tree is not None and _is_near(tree, _result(match)):
                return tree
    return None


def _arithmetic(expression: str, of_hundred: str) -> ast.expr | None:
    """The first part of an equation without units and signs of money; None where it is a lone number or no arithmetic.

    Solutions write both `8 / 40 * 100% = 20%` and `40 * 20% = 8`: `of_hundred` is what a percent sign means.
    """
    first = expression.partition("=")[0]
    without_units = _LETTERS.sub(lambda word: "*" if word[0] in "xX" else "", first).translate(_SIGNS)
    try:
        tree = parsed(_IMPLIED.sub("*", _PERCENT.sub(rf"(\1{of_hundred})", without_units)))
    except Refused:
        return None
    return None if isinstance(tree, ast.Constant) else tree


def _is_near(tree: ast.expr, result: Fraction | None) -> bool:
    try:
        return result is not None and abs(value_of(tree, {}) - result) <= abs(result) / 50
    except ArithmeticError:
        return False


class _Binding(ast.NodeTransformer):
    """Puts the names of earlier results into an expression, and percentages as the problem states them."""

    def __init__(self, known: frozenset[Fraction], results: Sequence[_Result], *, has_percentages: bool) -> None:
        self._known = known
        self._results = results
        self._has_percentages = has_percentages
        self.is_foreign = False
        self.foreign: list[Fraction] = []

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        if isinstance(node.op, ast.Mult) and _is_hundredth(node.left):
            return ast.BinOp(left=self.visit(node.right), op=ast.Div(), right=literal(Fraction(100)))
        if isinstance(node.op, ast.Mult) and _is_hundredth(node.right):
            return ast.BinOp(left=self.visit(node.left), op=ast.Div(), right=literal(Fraction(100)))
        left, right = self.visit(node.left), self.visit(node.right)
        if (
            isinstance(node.op, ast.Mult)
            and isinstance(node.right, ast.Constant)
            and isinstance(right, ast.BinOp)
            and isinstance(right.op, ast.Div)
        ):
            return ast.BinOp(
                left=ast.BinOp(left=left, op=ast.Mult(), right=right.left), op=ast.Div(), right=right.right
            )
        return ast.BinOp(left=left, op=node.op, right=right)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = value_of(node, {})
        same = [result for result in self._results if result.value == value]
        unused = [result for result in same if not result.is_used]
        if unused or (same and value not in self._known):
            chosen = (unused or same)[-1]
            chosen.is_used = True
            return ast.Name(id=chosen.name)
        if value in self._known:
            return literal(value)
        share = self._percentage(value)
        if share is not None:
            return share
        if value - 1 in self._known and value not in CONVENTIONS:  # she and her 14 friends
            return ast.BinOp(left=literal(value - 1), op=ast.Add(), right=literal(Fraction(1)))
        if value not in CONVENTIONS:
            self.is_foreign = True
            self.foreign.append(value)
        return literal(value)

    def _percentage(self, value: Fraction) -> ast.expr | None:
        """0.15 as 15 / 100, 0.85 as 1 - 15 / 100, and 1.15 as 1 + 15 / 100, where the problem says 15."""
        hundred, one = literal(Fraction(100)), literal(Fraction(1))
        if 100 * value in self._known and value < 1:
            return ast.BinOp(left=literal(100 * value), op=ast.Div(), right=hundred)
        if not self._has_percentages:
            return None
        for op, part in ((ast.Sub(), 1 - value), (ast.Add(), value - 1)):
            if part > 0 and 100 * part in self._known:
                return ast.BinOp(
                    left=one, op=op, right=ast.BinOp(left=literal(100 * part), op=ast.Div(), right=hundred)
                )
        for op, part in ((ast.Sub(), 100 - value), (ast.Add(), value - 100)):
            if part > 0 and part in self._known:
                return ast.BinOp(left=hundred, op=op, right=literal(part))
        return None


def _is_hundredth(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and value_of(tree, {}) == Fraction(1, 100)
