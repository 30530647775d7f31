"""Every gold answer of the benchmark files equals itself however it is commonly spelled, and no other answer."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.outcomes import Verdict
from server.answers.answers import compare, decide_exactly

_FILES = sorted((Path(__file__).parents[4] / "shared" / "data").glob("*.json"))

pytestmark = pytest.mark.skipif(not _FILES, reason="needs the benchmark files in ../shared/data")


def _golds() -> list[str]:
    return sorted({str(row["answer"]) for path in _FILES for row in json.loads(path.read_text(encoding="utf-8"))})


def _spellings(answer: str) -> Iterator[str]:
    yield from (f" {answer} ", f"{answer}.", f"${answer}$", f"${answer}$.", f"$${answer}$$")
    yield from (f"\\boxed{{{answer}}}", f"\\({answer}\\)", f"\\[{answer}\\]", f"$\\boxed{{{answer}}}$")
    yield from (answer.replace("\\frac", "\\dfrac"), answer.replace("\\frac", "\\tfrac"))
    yield answer.replace("\\dfrac", "\\frac")
    yield answer.replace("\\left", "").replace("\\right", "")
    yield re.sub(r"(?<!\\left)(?<!\\)([(\[])", r"\\left\1", re.sub(r"(?<!\\right)(?<!\\)([)\]])", r"\\right\1", answer))
    if "\\" not in answer:
        yield answer.replace(" ", "")
    if not re.search(r"\d,(\\!)? ?\d{3}(?!\d)", answer):
        yield re.sub(r"([-+=,])", r" \1 ", answer)
    elif answer[0].isdigit() or answer.startswith("\\$"):
        grouped = re.compile(r"(?<=\d),(?:\\!)? ?(?=\d{3}(?!\d))")
        yield from (grouped.sub(separator, answer) for separator in ("", "{,}", ",\\!", ","))
    for degree in ("", "^{\\circ}", "°", " degrees", "\\text{ degrees}"):
        yield answer.replace("^\\circ", degree)
    yield from (answer.replace("\\$", ""), answer.replace("\\$", "$"))
    yield from (answer.replace("\\mbox", "\\text"), re.sub(r"\\(?:text|mbox)\{([^}]*)\}", r"\1", answer))
    yield re.sub(r"\\(?:text|mbox)\{ [^}]*\}(\^2)?", "", answer)
    yield re.sub(r"(?<![\d ])\\frac\{(\w+)\}\{(\w+)\}", r"((\1)/(\2))", answer)
    if not answer.startswith("\\{"):
        yield re.sub(r"\\sqrt\{(\w+)\}", r"sqrt(\1)", answer)
    yield re.sub(r"\\sqrt\{(\w)\}", r"\\sqrt\1", answer)
    yield re.sub(r"^x *(=|\\in) *", "", answer)
    yield re.sub(r"_(\d+)$", r"_{\1}", answer)
    yield answer.replace("\\infty", "∞").replace("\\cup", "∪").replace("\\pi", "π ")
    yield answer.replace("pmatrix", "bmatrix")
    if re.fullmatch(r"-?\d+", answer):
        yield from (
            f"{answer}.0",
            f"{int(answer):,}",
            f"{answer}\\text{{ apples}}",
            f"{answer} miles",
            *(() if answer.startswith("-") else (f"+{answer}",)),
        )
        yield from (f"\\${answer}", f"{answer} dollars", f"x = {answer}", f"\\text{{{answer}}}")


def test_every_gold_answer_equals_itself_in_its_common_spellings() -> None:
    pairs = [(gold, spelling) for gold in _golds() for spelling in set(_spellings(gold))]
    wrong = [
        (gold, spelling, verdict)
        for gold, spelling in pairs
        for verdict in (compare(gold, spelling), compare(spelling, gold))
        if verdict is not Verdict.SAME
    ]
    assert len(pairs) > 5_000
    assert wrong == []


def test_different_whole_numbers_among_the_gold_answers_are_different() -> None:
    numbers = [gold for gold in _golds() if gold.isdigit()]
    wrong = [pair for pair in itertools.combinations(numbers, 2) if decide_exactly(*pair) is not Verdict.DIFFERENT]
    assert wrong == []


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_other_gold_answers_are_the_same_only_where_they_are_equal(every: int) -> None:
    """Of those that are no whole numbers: all of them take a quarter of a minute."""
    golds = [gold for gold in _golds() if not gold.isdigit()][::every]
    same = [pair for pair in itertools.combinations(golds, 2) if compare(*pair) is Verdict.SAME]
    assert {frozenset(pair) for pair in same} <= _EQUAL_GOLDS


_EQUAL_GOLDS = {
    frozenset({"2 \\sqrt{5}", "2\\sqrt{5}"}),
    frozenset({"\\frac14", "\\frac{1}{4}"}),
    frozenset({"-2,1", "1,-2"}),
}
