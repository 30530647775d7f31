"""Formulae: equations, worked lines and programs become steps in words."""

import re

import pytest

from training.published.formulae import awpc_program, mathqa_program, mawps_program
from training.published.program import Program, Reason, Refused, step_texts


def steps(program: Program) -> list[str]:
    return [text.strip() for text in step_texts(program)]


@pytest.mark.parametrize(
    ("question", "equation", "step"),
    [
        (
            "Tim had 41 stamps. He gave 5 stamps away. How many stamps does he have now?",
            "X = 41 - 5",
            "# Subtract 5 stamps from 41 stamps\nstamps = 41 - 5\nprint(stamps)",
        ),
        (
            "Eve earns $12 an hour. One day she earned $84. How long did she work?",
            "12.0*hours=84.0",
            "# Divide 84 dollars by 12 dollars\nhours = 84 / 12\nprint(f'{hours:.12g}')",
        ),
        (
            "A lamp costs $40. How much are 15 percent of that?",
            "x=40.0*15*0.01",
            "# Take 15 percent of 40 dollars\nshare = 40 * 15 / 100\nprint(f'{share:.12g}')",
        ),
        (
            "Ann, Bo and Cy have 2 cats, 3 dogs and 4 birds. How many animals are that?",
            "2+3+4=x",
            "# Add 2 cats, 3 dogs and 4 birds\nanimals = 2 + 3 + 4\nprint(animals)",
        ),
    ],
)
def test_an_equation_becomes_a_step_in_words(question: str, equation: str, step: str) -> None:
    assert steps(mawps_program(question, equation)) == [step]


def test_a_long_formula_is_cut_into_steps() -> None:
    question = "A shop sells 3 hats at 20 dollars, 4 caps at 11 dollars and 5 ties at 9 dollars. What does it earn?"
    assert steps(mawps_program(question, "(3*20)+(4*11)+(5*9)=earned")) == [
        "# Multiply 3 hats by 20 dollars\nproduct = 3 * 20",
        "# Multiply 4 caps by 11 dollars, then add the product\ntotal = product + 4 * 11",
        "# Multiply 5 ties by 9 dollars, then add the total\nearned = total + 5 * 9\nprint(earned)",
    ]


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        ("x = 41 + 17", Reason.FOREIGN_NUMBER),
        ("x = 41.123456 + 5", Reason.LONG_DECIMAL),
        ("x = 41", Reason.NO_COMPUTATION),
        ("x = 41 / (5 - 5)", Reason.ANSWER_NOT_COMPUTED),
        ("many = words", Reason.NO_COMPUTATION),
    ],
)
def test_an_equation_that_says_too_little_is_refused(equation: str, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        mawps_program("Tim had 41 or 41.123456 stamps, less 5.", equation)
    assert refusal.value.reason is reason


def test_worked_lines_follow_each_other() -> None:
    question = (
        "A hall has 1,200 chairs. Then 30 chairs are added. Then 2 more come. Half of them go: it is divided by 2."
    )
    lines = "Let's see:\n1,200 chairs + 30 → 1,230\nAdd 2 to 1,230 chairs: 1,232\n÷) 1,232 ÷ 2 = 616 chairs\n\nSo: 616."
    assert steps(awpc_program(question, lines, "616")) == [
        "# Add 1200 chairs, 30 chairs and 2\ntotal = 1200 + 30 + 2",
        "# Divide the total by 2\nshare = total / 2\nprint(f'{share:.12g}')",
    ]


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("Subtract 4 from 12 nuts: 8", "12 - 4"),
        ("-) 12 - 4 = 8 nuts", "12 - 4"),
        ("12 nuts minus 4 equals 8", "12 - 4"),
        ("When 12 nuts are multiplied by 4, the result is 48", "12 * 4"),
        ("12 nuts times 4 equals 48", "12 * 4"),
        ("Dividing 12 nuts into 4 equal parts: 3", "12 / 4"),
        ("Addition step: 12 + 4 = 16 nuts", "12 + 4"),
    ],
)
def test_a_worked_line_names_its_operation(line: str, operation: str) -> None:
    *_, answer = re.findall(r"\d+", line)
    [assignment] = awpc_program("There are 12 nuts and 4 jars.", line, answer).assignments
    assert assignment.expression == operation


@pytest.mark.parametrize(
    ("lines", "answer", "reason"),
    [
        ("So it is 16.", "16", Reason.NO_COMPUTATION),
        ("12 + 4 = 16", "17", Reason.ANSWER_NOT_COMPUTED),
        ("12 + 4 = 16\n99 - 4 = 95", "95", Reason.FOREIGN_NUMBER),
    ],
)
def test_worked_lines_that_do_not_join_are_refused(lines: str, answer: str, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        awpc_program("There are 12 nuts and 4 jars.", lines, answer)
    assert refusal.value.reason is reason


def test_a_program_keeps_what_it_uses_twice() -> None:
    question = "a sum of 500 dollars at 8% stays for 3 years. how many dollars is the square of its interest?"
    program = (
        "n0 = 500.0\nn1 = 8.0\nn2 = 3.0\nt0 = n0 * n1\nt1 = t0 / 100.0\nt2 = n2 * t1\nanswer = t2 * t2\nprint(answer)"
    )
    assert steps(mathqa_program(question, program)) == [
        "# Take 8 percent of 500 dollars\nshare = 500 * 8 / 100",
        "# Multiply 3 years by the share\nproduct = 3 * share",
        "# Multiply the product by the product\ndollars = product * product\nprint(f'{dollars:.12g}')",
    ]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("n0 = 9.0\nanswer = math.sqrt(max(0, n0))", Reason.NO_COMPUTATION),
        ("n0 = 9.0\nt0 = 10.0 * 100.0\nanswer = n0 * t0", Reason.FOREIGN_NUMBER),
        ("n0 = 9.0\nanswer = n0", Reason.NO_COMPUTATION),
        ("print(answer)", Reason.NO_COMPUTATION),
    ],
)
def test_a_program_that_is_no_arithmetic_is_refused(program: str, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        mathqa_program("what is the root of 9?", program)
    assert refusal.value.reason is reason


def test_powers_lose_the_bound_of_their_exponent() -> None:
    program = mathqa_program("what is 3 to the power 2?", "n0 = 3.0\nn1 = 2.0\nanswer = n0**min(n1, 5)")
    assert program.assignments[-1].expression == "3 ** 2"
