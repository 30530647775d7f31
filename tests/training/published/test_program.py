"""Programs: their text in the step format, their exact values, and what is no arithmetic."""

from fractions import Fraction

import pytest

from training.published.program import (
    Assignment,
    Program,
    ProgramStep,
    Reason,
    Refused,
    free_name,
    needed,
    parsed,
    step_texts,
    values,
)


def a_step(comment: str, *lines: str) -> ProgramStep:
    pairs = (line.split(" = ") for line in lines)
    return ProgramStep(
        comment=comment, assignments=tuple(Assignment(name=name, expression=code) for name, code in pairs)
    )


def test_steps_are_commented_code_and_the_last_one_prints() -> None:
    program = Program(steps=(a_step("Buy eggs", "eggs = 2 * 12"), a_step("Break some", "left = eggs - 3")))
    assert step_texts(program) == (
        "\n# Buy eggs\neggs = 2 * 12\n",
        "\n# Break some\nleft = eggs - 3\nprint(left)\n",
    )


@pytest.mark.parametrize("line", ["x = 3 / 2", "x = 0.5 * 4", "x = 2 ** 3"])
def test_an_answer_that_may_be_a_float_is_rounded(line: str) -> None:
    assert step_texts(Program(steps=(a_step("Do", line),)))[0].endswith("print(f'{x:.12g}')\n")


def test_values_are_exact() -> None:
    program = Program(steps=(a_step("Do", "a = 0.1 + 0.2", "b = a / 3", "c = -b ** 2"),))
    assert values(program) == {"a": Fraction(3, 10), "b": Fraction(1, 10), "c": Fraction(-1, 100)}


def test_what_the_answer_does_not_need_is_left_out() -> None:
    steps = [a_step("One", "a = 1", "b = 2"), a_step("Two", "c = a + 1"), a_step("Three", "d = b * 3")]
    assert needed(steps, "d") == Program(steps=(a_step("One", "b = 2"), a_step("Three", "d = b * 3")))


@pytest.mark.parametrize(
    "code", ["", "1 +", "a < b", "f(2)", "'text'", "[1]", "True", "a.b", "x if y else z", "1 // 2"]
)
def test_what_is_no_arithmetic_is_refused(code: str) -> None:
    with pytest.raises(Refused) as refusal:
        parsed(code)
    assert refusal.value.reason is Reason.NO_COMPUTATION


def test_large_exponents_have_no_value() -> None:
    with pytest.raises(ArithmeticError):
        values(Program(steps=(a_step("Do", "a = 2 ** 1000"),)))


@pytest.mark.parametrize(
    ("wishes", "taken", "name"),
    [
        (["eggs", "hens"], [], "eggs"),
        (["eggs", "hens"], ["eggs"], "hens"),
        (["class", "print", "été", "2nd"], [], "amount"),
        (["eggs"], ["eggs"], "eggs_2"),
        (["eggs"], ["eggs", "eggs_2"], "eggs_3"),
    ],
)
def test_a_name_is_the_first_free_wish(wishes: list[str], taken: list[str], name: str) -> None:
    assert free_name(wishes, taken) == name
