"""Perturbations: right steps with one thing changed, which the PPM should score lower than the steps themselves.

Wrong steps of the policy are rare where it is good, and always of the same kinds. A changed step looks right, with the
right comment, and computes something else. Only running the changed program shows whether it prints another result:
`perturbations` proposes programs, the caller runs them, and `perturbed_pair` decides. Problems that are always solved
give such pairs too. Pure; never runs code.
"""

import io
import keyword
import random
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations, islice, pairwise
from tokenize import TokenInfo

from search import CandidateStop, Path, Tree
from training.examples.evidence import RIGHT, Evidence, Lineage, merge, trajectories
from training.examples.paths import without_tokens
from training.examples.preferences import Pair
from training.examples.programs import canonical, program_of, variables

OTHER_OPERATORS = {
    "+": ("-",),
    "-": ("+",),
    "*": ("+", "/"),
    "/": ("*",),
    "//": ("%", "*"),
    "%": ("//",),
    "**": ("*",),
}
"""What an arithmetic operator is changed to: the mistakes that people make too."""

SAME_NUMBER = 0.01
"""Relative difference up to which two numbers that are not whole count as one, rounded differently."""

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_PLAIN_NUMBER = re.compile(r"\d+|\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """A right step and a changed one after the same prefix, without token ids."""

    problem_id: str
    right: Path
    """Down to the right step."""
    changed: Path
    """Down to the changed step, whose output is not known yet."""
    program: tuple[str, ...]
    """The code steps of a right trajectory, with the changed one in place of the right one."""
    right_output: str
    """What that trajectory printed."""


def perturbations(problem_id: str, trees: Sequence[Tree], *, rng: random.Random, count: int) -> list[Perturbation]:
    """At most `count` changes to the steps of a problem's right trajectories, at most one to each step."""
    root = merge(trees)
    places = {
        id(step): (lineage, depth)
        for lineage in trajectories(root, answering=RIGHT)
        for depth, step in enumerate(lineage[:-1])
    }
    shuffled = rng.sample(list(places.values()), len(places))
    found = (_perturbation(problem_id, root, lineage, depth, rng=rng) for lineage, depth in shuffled)
    return list(islice((one for one in found if one is not None), count))


def perturbed_pair(perturbation: Perturbation, output: str | None) -> Pair | None:
    """The pair, once the changed program has run; None where it failed or did not print another result.

    `output` is what `search.format.observation` shows of the whole run; None: some step failed.
    """
    if output is None or not output.strip() or _same_result(output, perturbation.right_output):
        return None
    *prefix, changed = perturbation.changed.steps
    if changed.stop is CandidateStop.END_OF_CODE:
        changed = replace(changed, output=output)
    worse = replace(perturbation.changed, steps=(*prefix, changed))
    return Pair(better=perturbation.right, worse=worse, weight=1.0, problem_id=perturbation.problem_id)


def perturbed(text: str, rng: random.Random, *, earlier: frozenset[str]) -> str | None:
    """A step's text with one number or operator changed, or two variables of `earlier` steps swapped.

    Comments and layout stay. None where nothing can be changed.
    """
    tokens = _tokens(text)
    kinds = [list(_other_numbers(tokens)), list(_other_operators(tokens)), list(_swaps(tokens, text, earlier))]
    possible = [changes for changes in kinds if changes]
    return _changed(text, rng.choice(rng.choice(possible))) if possible else None


def _perturbation(
    problem_id: str, root: Evidence, lineage: Lineage, depth: int, *, rng: random.Random
) -> Perturbation | None:
    code = [step.path.steps[-1] for step in lineage[:-1]]
    texts = [step.text for step in code]
    text = perturbed(texts[depth], rng, earlier=variables(program_of(texts[:depth])))
    siblings = (lineage[depth - 1] if depth else root).children
    if text is None or canonical(text) in {canonical(step.path.steps[-1].text) for step in siblings}:
        return None
    output = code[-1].output
    assert output is not None, "an answer follows the end of the code"
    right = lineage[depth].path
    changed = replace(without_tokens(code[depth]), text=text, output=None)
    return Perturbation(
        problem_id=problem_id,
        right=right,
        changed=replace(right, steps=(*right.steps[:-1], changed)),
        program=(*texts[:depth], text, *texts[depth + 1 :]),
        right_output=output,
    )


_Change = Sequence[tuple[TokenInfo, str]]
"""Tokens, each with its replacement."""


def _tokens(text: str) -> list[TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return []


def _other_numbers(tokens: Iterable[TokenInfo]) -> Iterator[_Change]:
    for token in tokens:
        if token.type == tokenize.NUMBER and _PLAIN_NUMBER.fullmatch(token.string):
            yield from ([(token, other)] for other in _near(token.string))


def _near(literal: str) -> list[str]:
    """One unit of the last digit more or less, and the last two digits swapped."""
    whole, point, fraction = literal.partition(".")
    digits = whole + fraction
    others = [int(digits) + 1, int(digits) - 1, int(digits[:-2] + digits[:-3:-1])]
    texts = [str(other).zfill(len(fraction) + 1) for other in dict.fromkeys(others) if other not in (-1, int(digits))]
    return [text[: len(text) - len(fraction)] + point + text[len(text) - len(fraction) :] for text in texts]


def _other_operators(tokens: Sequence[TokenInfo]) -> Iterator[_Change]:
    """Arithmetic operators between two operands, also those that assign."""
    for before, token in pairwise(tokens):
        operator = token.string.removesuffix("=")
        if token.type == tokenize.OP and operator in OTHER_OPERATORS and _ends_operand(before):
            assigns = "=" if token.string != operator else ""
            yield from ([(token, other + assigns)] for other in OTHER_OPERATORS[operator])


def _ends_operand(token: TokenInfo) -> bool:
    """Not a string: those are repeated, formatted and joined by the same operators."""
    if token.type == tokenize.NAME:
        return not keyword.iskeyword(token.string)
    return token.type == tokenize.NUMBER or token.string in (")", "]")


def _swaps(tokens: Sequence[TokenInfo], text: str, earlier: frozenset[str]) -> Iterator[_Change]:
    """All uses of two variables of earlier steps, exchanged."""
    names = earlier - variables(text)
    uses: dict[str, list[TokenInfo]] = {}
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        is_variable = token.type == tokenize.NAME and token.string in names
        if is_variable and after.string != "=" and (before is None or before.string != "."):
            uses.setdefault(token.string, []).append(token)
    for one, other in combinations(uses, 2):
        yield [*((token, other) for token in uses[one]), *((token, one) for token in uses[other])]


def _changed(text: str, change: _Change) -> str:
    lines = text.split("\n")
    for token, replacement in sorted(change, key=lambda item: item[0].start, reverse=True):
        row, start, end = token.start[0] - 1, token.start[1], token.end[1]
        lines[row] = lines[row][:start] + replacement + lines[row][end:]
    return "\n".join(lines)


def _same_result(one: str, other: str) -> bool:
    """Whether the last lines tell the same: equal words, and equal numbers, however they are rounded."""
    line, other_line = _last_line(one), _last_line(other)
    if _NUMBER.sub("#", line).split() != _NUMBER.sub("#", other_line).split():
        return False
    return all(map(_same_number, _NUMBER.findall(line), _NUMBER.findall(other_line)))


def _last_line(output: str) -> str:
    return "".join(output.strip().splitlines()[-1:])


def _same_number(one: str, other: str) -> bool:
    number, other_number = Decimal(one), Decimal(other)
    if number == number.to_integral_value() and other_number == other_number.to_integral_value():
        return number == other_number
    return abs(number - other_number) <= Decimal(SAME_NUMBER) * max(abs(number), abs(other_number))
