"""Grader: decides whether an answer to a problem is right. The only place that does; search and vote never see a label.

Problems of a generator are graded by the generator; all others by comparing the answer with the known one.
"""

import re
from fractions import Fraction

from search import AnswerEquality, Verdict
from server.answers.exact import rational_value
from server.answers.grammar import read
from server.answers.scanner import Unreadable
from server.answers.spelling import respelled
from server.answers.terms import Quantity
from training.problems.families import Family
from training.problems.problem import GENERATOR, Problem

RELATIVE_TOLERANCE = Fraction(1, 1000)
"""Labels with a decimal point were rounded by their publishers, to different numbers of digits."""

_DECIMAL = re.compile(r"[-+]?\d*\.\d+")
_MONEY = "dollar"


class Grader:
    """Grades answers; keeps the generators that it needed open."""

    def __init__(self, equality: AnswerEquality) -> None:
        self._equality = equality
        self._families: dict[str, Family] = {}

    async def is_right(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is right; an answer that cannot be checked is not."""
        if problem.source == GENERATOR:
            return self._family(problem.group).is_right(answer, problem)
        verdict = await self._equality.same(answer, problem.answer)
        return verdict is Verdict.SAME or (verdict is Verdict.DIFFERENT and is_close(answer, problem.answer))

    def _family(self, name: str) -> Family:
        if name not in self._families:
            self._families[name] = Family(name)
        return self._families[name]


def is_close(answer: str, label: str) -> bool:
    """Whether the label is a decimal number that is no integer, and the answer a number within the tolerance of it."""
    if not _DECIMAL.fullmatch(label):
        return False
    expected, given = Fraction(label), _number(answer)
    if expected.denominator == 1 or given is None:
        return False
    return abs(given - expected) <= RELATIVE_TOLERANCE * abs(expected)


def _number(answer: str) -> Fraction | None:
    spelling = respelled(answer)
    if not spelling:
        return None
    try:
        form = read(spelling)
    except Unreadable:
        return None
    # 4.5 cm may stand for 0.045 m; of the units only money leaves a number as it is.
    return rational_value(form) if isinstance(form, Quantity) and form.unit in (None, _MONEY) else None
