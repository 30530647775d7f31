"""Variants: the same problem and program with other numbers, so that one solution gives several problems. Pure.

Numbers are changed in the text, the code and the comments alike. A number is free to change only where it is certain
which literals of the code stand for it. The new numbers are as large and as round as the old ones, and every value on
the way stays plausible: it keeps its sign, stays whole where it was whole, and below 1 where it was.
"""

import ast
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from training.published.numerals import Numeral, numerals, spelt
from training.published.program import (
    Assignment,
    Program,
    ProgramStep,
    literal,
    literals,
    parsed,
    value_of,
    values,
)

_UNITS = frozenset(map(Fraction, (1, 7, 12, 24, 30, 31, 52, 60, 100, 365, 1000)))
"""Numbers that code may hold though the problem does not state them: a part of a week, a share of a hundred."""
_NEVER_FREE = _UNITS | {Fraction(0), Fraction(2)}
"""Where a problem states one of these, the code may still mean the other."""
_STEPS = (
    *(Fraction(step) for step in (1000, 500, 100, 50, 10, 5, 1)),
    *(Fraction(1, part) for part in (4, 10, 20, 100)),
)
_TRIES = 30
"""For each variant: about one draw in five keeps every value plausible."""
_LARGEST_FACTOR = 5
"""By which a value on the way may grow or shrink."""
_MOST_DECIMALS = 2
"""Of an answer, and of a value on the way that had no more before: cents."""
_YEARS = range(1900, 2100)
_NAMES = re.compile(r"(?:[\w/:.-]|\b(?:an?|grade|chapter|page|number|room|route|at|since|in|until) )$", re.IGNORECASE)
"""What stands before a number that names something, such as a grade or an hour."""
_NAMED = re.compile(r"(?:st|nd|rd|th)\b|[/:.]\d|/|\s?(?:[ap]\.?m\b|o'clock)|\s\d", re.IGNORECASE)
_PERCENT = re.compile(r"\s?(?:%|percent|per cent)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A problem with other numbers."""

    question: str
    program: Program
    answer: str
    """What the program gives, exactly."""


def variants(question: str, program: Program, *, rng: random.Random, count: int) -> list[Variant]:
    """At most `count` different variants of a problem and its program."""
    free = _free(question, program)
    if not free:
        return []
    found: dict[str, Variant] = {}
    lines, before = _opened(program, free), values(program)
    for _ in range(_TRIES * count):
        drawn = _drawn(free, question, rng)
        changed = {old: new for old, new in drawn.items() if old != new}
        after = _results(lines, drawn)
        if not changed or after is None or not all(_is_plausible(after[name], before[name]) for name in before):
            continue
        answer, text = after[lines[-1][0]], _rewritten(question, changed)
        if _has_few_decimals(answer):
            written = ast.unparse(literal(answer))
            found[text] = Variant(question=text, program=_changed(program, changed), answer=written)
            if len(found) == count:
                break
    return list(found.values())


def _free(question: str, program: Program) -> list[Numeral]:
    """The numerals that can change; none where a number of the problem or of the code has no certain counterpart."""
    stated = numerals(question)
    occurrences = Counter(numeral.value for numeral in stated)
    used = {value for line in program.assignments for value in literals(parsed(line.expression))}
    said = spelt(question)
    if not occurrences.keys() <= used or not used <= occurrences.keys() | said | _UNITS:
        return []
    *on_the_way, answer = values(program).values()
    if used & {*on_the_way}:  # the literal may stand for the result, which changes
        return []
    uncertain = _NEVER_FREE | said | {answer} | spelt(" ".join(step.comment for step in program.steps))
    return [
        numeral
        for numeral in stated
        if occurrences[numeral.value] == 1
        and numeral.value not in uncertain
        and numeral.value not in _YEARS
        and not _NAMES.search(question[: numeral.start])
        and not _NAMED.match(question, numeral.end)
    ]


_Lines = Sequence[tuple[str, ast.expr]]
"""A program's assignments, whose free numbers are names."""


def _opened(program: Program, free: Sequence[Numeral]) -> _Lines:
    slots = _Literals({numeral.value: ast.Name(id=str(numeral.value)) for numeral in free})
    return [(line.name, slots.visit(parsed(line.expression))) for line in program.assignments]


def _results(lines: _Lines, numbers: Mapping[Fraction, Fraction]) -> dict[str, Fraction] | None:
    """The value of each line; None where one has none."""
    found = {str(old): new for old, new in numbers.items()}
    try:
        for name, tree in lines:
            found[name] = value_of(tree, found)
    except ArithmeticError:
        return None
    return found


def _drawn(free: Sequence[Numeral], question: str, rng: random.Random) -> dict[Fraction, Fraction]:
    """Values of the free numbers, of which some are drawn anew."""
    chosen = rng.sample(free, rng.randint(1, len(free)))
    others = {numeral.value: _similar(numeral, question, rng) for numeral in chosen}
    return {numeral.value: others.get(numeral.value, numeral.value) for numeral in free}


def _similar(numeral: Numeral, question: str, rng: random.Random) -> Fraction:
    """A number between half and twice the old one, as round as that; a percentage stays below 100."""
    value = numeral.value
    last_digit = Fraction(1, 10 ** len(question[numeral.start : numeral.end].partition(".")[2]))
    step = next((step for step in _STEPS if value % step == step % last_digit == 0 and value >= 4 * step), last_digit)
    is_share = value < 100 and _PERCENT.match(question, numeral.end) is not None
    most = min(2 * value, 100 - step) if is_share else 2 * value
    least = max(value / 2, Fraction(2)) if value > 1 else value / 2
    return rng.randint(-(-least // step), most // step) * step


def _is_plausible(after: Fraction, before: Fraction) -> bool:
    if before == 0 or after * before <= 0:
        return after == before
    if (before.denominator == 1) != (after.denominator == 1) or (abs(before) < 1) != (abs(after) < 1):
        return False
    is_written_out = _has_few_decimals(after) or not _has_few_decimals(before)
    return is_written_out and 1 <= _LARGEST_FACTOR * after / before <= _LARGEST_FACTOR**2


def _has_few_decimals(value: Fraction) -> bool:
    return (10**_MOST_DECIMALS * value).denominator == 1


def _rewritten(text: str, changed: Mapping[Fraction, Fraction]) -> str:
    for numeral in reversed(numerals(text)):
        if numeral.value in changed:
            old = text[numeral.start : numeral.end]
            decimals = len(old.partition(".")[2])
            separator = "," if "," in old else ""
            new = f"{float(changed[numeral.value]):{separator}.{decimals}f}"
            text = f"{text[: numeral.start]}{new}{text[numeral.end :]}"
    return text


class _Literals(ast.NodeTransformer):
    """Puts other expressions in place of some numbers."""

    def __init__(self, others: Mapping[Fraction, ast.expr]) -> None:
        self._others = others

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return self._others.get(value_of(node, {}), node)


def _changed(program: Program, changed: Mapping[Fraction, Fraction]) -> Program:
    """The program with other numbers in code and comments."""
    others = _Literals({old: literal(new) for old, new in changed.items()})
    return Program(
        steps=tuple(
            ProgramStep(
                comment=_rewritten(step.comment, changed),
                assignments=tuple(
                    Assignment(name=line.name, expression=ast.unparse(others.visit(parsed(line.expression))))
                    for line in step.assignments
                ),
            )
            for step in program.steps
        )
    )
