"""Answers of every kind are equal to themselves in all common spellings, and to no other answer."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from search.outcomes import Verdict
from server.answers.comparison import compare, decide_exactly
from tests.server.answers.forms import FORMS, Form

_ANSWERS = [form.answer for form in FORMS]
_BENCHMARK_FILES = sorted((Path(__file__).parents[4] / "shared" / "data").glob("*.json"))
_EQUAL_BENCHMARK_ANSWERS = {
    frozenset({"2 \\sqrt{5}", "2\\sqrt{5}"}),
    frozenset({"\\frac14", "\\frac{1}{4}"}),
    frozenset({"-2,1", "1,-2"}),
}

needs_benchmarks = pytest.mark.skipif(not _BENCHMARK_FILES, reason="needs the benchmark files in ../shared/data")


def _benchmark_answers() -> list[str]:
    rows = [row for path in _BENCHMARK_FILES for row in json.loads(path.read_text(encoding="utf-8"))]
    return sorted({str(row["answer"]) for row in rows})


def _spellings(answer: str) -> Iterator[str]:
    yield from (f" {answer} ", f"{answer}.", f"${answer}$", f"${answer}$.", f"$${answer}$$")
    yield from (f"\\boxed{{{answer}}}", f"\\({answer}\\)", f"\\[{answer}\\]", f"$\\boxed{{{answer}}}$")
    yield from (answer.replace("\\frac", "\\dfrac"), answer.replace("\\frac", "\\tfrac"))
    yield answer.replace("\\dfrac", "\\frac")
    yield answer.replace("\\left", "").replace("\\right", "")
    yield re.sub(r"(?<!\\left)(?<!\\)([(\[])", r"\\left\1", re.sub(r"(?<!\\right)(?<!\\)([)\]])", r"\\right\1", answer))
    if not re.search(r"\\|[A-Za-z]{2}", answer):
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
    yield re.sub(r"(?<=[\d}])\s*\\(?:text|mbox)\{ [^}]*\}(\^2)?", "", answer)
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


def _same_pairs(answers: Iterable[str]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in itertools.combinations(answers, 2) if compare(*pair) is Verdict.SAME}


def _with_other_verdict(verdict: Verdict, answer: str, others: Iterable[str]) -> list[str]:
    """The texts that get another verdict against `answer`, in one order or the other."""
    return [other for other in others if {compare(answer, other), compare(other, answer)} != {verdict}]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.answer}")
def test_form_equals_its_spellings_and_no_near_miss(form: Form) -> None:
    equal = {form.answer, *form.same, *_spellings(form.answer)}
    assert _with_other_verdict(Verdict.SAME, form.answer, equal) == []
    assert _with_other_verdict(Verdict.DIFFERENT, form.answer, form.different) == []


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_different_forms_are_never_the_same(every: int) -> None:
    assert _same_pairs(_ANSWERS[::every]) == set()


@needs_benchmarks
def test_benchmark_answers_equal_their_common_spellings() -> None:
    spellings = {answer: set(_spellings(answer)) for answer in _benchmark_answers()}
    wrong = {answer: _with_other_verdict(Verdict.SAME, answer, spelled) for answer, spelled in spellings.items()}
    assert sum(map(len, spellings.values())) > 5_000
    assert not any(wrong.values()), wrong


@needs_benchmarks
def test_different_whole_benchmark_answers_are_different() -> None:
    numbers = [answer for answer in _benchmark_answers() if answer.isdigit()]
    wrong = [pair for pair in itertools.combinations(numbers, 2) if decide_exactly(*pair) is not Verdict.DIFFERENT]
    assert wrong == []


@needs_benchmarks
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_other_benchmark_answers_are_same_only_if_equal(every: int) -> None:
    """For answers that are not whole numbers. All of them take a quarter of a minute."""
    answers = [answer for answer in _benchmark_answers() if not answer.isdigit()][::every]
    assert _same_pairs(answers) <= _EQUAL_BENCHMARK_ANSWERS
