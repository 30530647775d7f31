"""Grading: generators grade their own problems, equality grades the others, and decimals may be rounded."""

import pytest

from search.testing.fakes import StringEquality
from server.answers.equality import EqualityPool
from training.problems.families import Family, Split
from training.problems.grader import Grader, is_close
from training.problems.problem import Problem


def word_problem(answer: str) -> Problem:
    return Problem(id="file/0", group="file", question="how much?", answer=answer, source="file.json")


async def test_a_generated_problem_is_graded_by_its_generator() -> None:
    # The family counts what rounds to the label as right; equality would not.
    problem = next(iter(Family("polynomial_equations").draw(Split.TEST, 1, start=1)))
    grader = Grader(StringEquality())
    assert await grader.is_right(problem, f" {problem.answer}")
    assert not await grader.is_right(problem, "__import__('os')")


async def test_other_problems_are_graded_by_equality() -> None:
    async with EqualityPool() as equality:
        grader = Grader(equality)
        assert await grader.is_right(word_problem("1/2"), "\\frac{1}{2}")
        assert not await grader.is_right(word_problem("1/2"), "1/3")
        assert not await grader.is_right(word_problem("3"), "3.001")
        assert await grader.is_right(word_problem("33.33"), "100/3")
        assert not await grader.is_right(word_problem("33.33"), "33.4")


@pytest.mark.parametrize(
    ("answer", "label"),
    [("0.3336", "0.3333"), ("1/3", "0.3333"), ("$4.50", "4.499"), ("1,000.5", "1000.0001"), ("-2.5", "-2.501")],
)
def test_an_answer_within_a_thousandth_of_a_decimal_is_close(answer: str, label: str) -> None:
    assert is_close(answer, label)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("0.334", "0.33"),  # off by more
        ("1000.5", "1000"),  # an integer is exact
        ("1000.5", "1000.0"),
        ("0.3333", "1/3"),  # so is a fraction
        ("2.5 cm", "2.501"),  # the unit may change the number
        ("33.3%", "33.33"),
        ("x", "2.5"),
        ("2.5, 2.5", "2.5"),
        ("-2.5", "2.5"),
        ("9^9^9^9", "2.5"),
        ("", "2.5"),
    ],
)
def test_other_answers_are_not_close(answer: str, label: str) -> None:
    assert not is_close(answer, label)
