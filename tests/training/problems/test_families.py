"""Splits of families are disjoint by text, and grading never runs an answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.problems.families import (
    FAMILIES,
    HELD_OUT,
    Family,
    ProblemChanged,
    Split,
    family_problems,
    normalised,
    unseen,
)
from training.problems.problem import Problem


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_training_never_sees_validation_or_test_texts(name: str) -> None:
    family = Family(name)
    held_out = {
        normalised(problem.question)
        for split in (Split.VALIDATION, Split.TEST)
        for problem in family.draw(split, HELD_OUT)
    }
    assert held_out
    for split in (Split.TRAIN, Split.SEARCH):
        seen = {normalised(problem.question) for problem in unseen(family, split, 300)}
        assert seen
        assert not seen & held_out


def test_splits_draw_different_problems() -> None:
    family = Family("simple_equations")
    drawn = [{problem.question for problem in family.draw(split, 50)} for split in Split]
    distinct = {question for questions in drawn for question in questions}
    assert len(distinct) > 0.95 * sum(map(len, drawn))


def test_drawing_again_gives_the_same_problems() -> None:
    first = [problem.question for problem in Family("gcd").draw(Split.TEST, 20)]
    assert first == [problem.question for problem in Family("gcd").draw(Split.TEST, 20)]
    assert first[5:9] == [problem.question for problem in Family("gcd").draw(Split.TEST, 4, start=5)]


def test_normalised_ignores_case_and_spacing() -> None:
    assert normalised(" What  is\n2 + 2?") == normalised("what is 2 + 2?")


def integration_problem() -> tuple[Family, Problem]:
    family = Family("simple_integration")
    return family, next(iter(family.draw(Split.TEST, 1)))


def test_the_label_is_right_and_anything_else_is_wrong() -> None:
    family, problem = integration_problem()
    assert family.is_right(problem.answer, problem)
    assert not family.is_right(problem.answer + " + x**2 + X**2", problem)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_label_is_right(name: str) -> None:
    family = Family(name)
    assert all(family.is_right(problem.answer, problem) for problem in family.draw(Split.TEST, 25))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_that_the_grader_cannot_read_is_wrong(name: str) -> None:
    family = Family(name)
    problem = next(iter(family.draw(Split.TEST, 1)))
    for answer in ("13, 19 and more", "x" * 150, "1/0", "::", "nan", "e" * 5, "two\nlines"):
        assert not family.is_right(answer, problem)


def test_an_answer_that_is_python_is_wrong_and_does_nothing(tmp_path: Path) -> None:
    family, problem = integration_problem()
    target = tmp_path / "made"
    for answer in (f"open('{target}', 'w')", f"__import__('os').system('touch {target}')", "9**9**9**9 + C"):
        assert not family.is_right(answer, problem)
    assert not target.exists()


def test_unknown_family_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"unknown problem family 'algebra'.*gsm_symbolic"):
        Family("algebra")


def test_a_problem_is_graded_by_a_family_that_never_drew_it() -> None:
    problem = list(Family("gcd").draw(Split.SEARCH, 7))[-1]
    assert Family("gcd").is_right(problem.answer, problem)
    assert not Family("gcd").is_right(problem.answer + "1", problem)


def test_a_problem_that_the_generator_changed_is_refused() -> None:
    problem = next(iter(Family("gcd").draw(Split.TEST, 1)))
    with pytest.raises(ProblemChanged, match="gcd/test/0"):
        Family("gcd").is_right(problem.answer, replace(problem, question="1 + 1?"))


def test_a_problem_of_another_family_is_refused() -> None:
    problem = next(iter(Family("gcd").draw(Split.TEST, 1)))
    with pytest.raises(ValueError, match="gcd/test/0 is no id of the family lcm"):
        Family("lcm").is_right(problem.answer, problem)


def test_family_problems_are_distinct() -> None:
    questions = [problem.question for problem in family_problems("prime_factorization", 60)]
    assert len(set(questions)) == 60
