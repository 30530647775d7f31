"""GSM8K's notation: computations become code over earlier results, and comments hold no result."""

import pytest

from training.published.gsm8k import gsm8k_program
from training.published.program import Reason, Refused, step_texts

HENS = "Ada has 4 hens. Each lays 6 eggs a week. She sells half of the eggs for $2 each. What does she earn?"


def steps(question: str, *sentences: str, answer: str) -> list[str]:
    return [text.strip() for text in step_texts(gsm8k_program(question, "\n".join(sentences), answer))]


def code(question: str, *sentences: str, answer: str) -> list[str]:
    """The lines of code without the last one, which prints."""
    lines = [line for text in steps(question, *sentences, answer=answer) for line in text.splitlines()]
    return [line for line in lines if not line.startswith("#")][:-1]


def test_sentences_become_steps_over_earlier_results() -> None:
    assert steps(
        HENS,
        "The hens lay 4*6=<<4*6=24>>24 eggs a week.",
        "Ada sells 24 / 2 = <<24/2=12>>12 eggs.",
        "So she earns 12 eggs * $2/egg = $<<12*2=24>>24.",
        answer="24",
    ) == [
        "# The hens lay eggs a week\neggs = 4 * 6",
        "# Ada sells eggs\nada_eggs = eggs / 2",
        "# She earns\nearns = ada_eggs * 2\nprint(f'{earns:.12g}')",
    ]


def test_computations_without_a_mark_count_too() -> None:
    found = code(HENS, "They lay 4 x 6 eggs = 24 eggs.", "She sells 24 ÷ 2 = 12 and earns 12(2) = $24.", answer="24")
    assert [line.split(" = ")[1] for line in found] == ["4 * 6", "eggs / 2", f"{found[1].split(' = ')[0]} * 2"]


@pytest.mark.parametrize(
    ("question", "marked", "written"),
    [
        ("A coat costs $80. It is 15% off.", "80*.15=12", "80 * 15 / 100"),
        ("A coat costs $80. It is 15% off.", "80*.85=68", "80 * (1 - 15 / 100)"),
        ("A coat costs $80. The tax is 5%.", "80*1.05=84", "80 * (1 + 5 / 100)"),
        ("A coat costs $80. It is 15% off.", "80*15*.01=12", "80 * 15 / 100"),
        ("Sam invites 19 friends. Each eats 2 pies.", "20*2=40", "20 * 2"),
        ("Sam invites 22 friends. Each eats 2 pies.", "23*2=46", "(22 + 1) * 2"),
    ],
)
def test_numbers_are_written_as_the_problem_states_them(question: str, marked: str, written: str) -> None:
    result = marked.partition("=")[2]
    [line] = code(question, f"That makes <<{marked}>>{result}", answer=result)
    assert line.partition(" = ")[2] == written


def test_comments_lose_results_and_keep_stated_numbers() -> None:
    [_, last] = steps(
        "A box holds 8 pens. Lee has 3 boxes and loses 5 pens.",
        "Lee starts with 8*3=<<8*3=24>>24 pens.",
        "He has 24 pens and loses 5 of them, so he has 24-5=<<24-5=19>>19 left.",
        answer="19",
    )
    comment = last.splitlines()[0]
    assert comment == "# He has pens and loses 5 of them, so he has left"


def test_a_sentence_of_nothing_but_numbers_names_its_result() -> None:
    [step] = steps("Ann is 4. Bob is 3 years older.", "4 + 3 = <<4+3=7>>7 years", answer="7")
    assert step.splitlines()[0] == "# Work out the years"


@pytest.mark.parametrize(
    ("solution", "answer", "reason"),
    [
        ("Let x be the number. Then x is 5.", "5", Reason.NO_COMPUTATION),
        ("x = <<37=37>>37", "37", Reason.NO_COMPUTATION),
        ("There are 6*4=<<6*4=24>>24 eggs.", "25", Reason.ANSWER_NOT_COMPUTED),
        ("She sold 37 of them, so 37-6=<<37-6=31>>31 are left.", "31", Reason.FOREIGN_NUMBER),
    ],
)
def test_a_solution_that_computes_in_the_head_is_refused(solution: str, answer: str, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        gsm8k_program(HENS, solution, answer)
    assert refusal.value.reason is reason


def test_computations_that_lead_nowhere_are_left_out() -> None:
    found = code(HENS, "A dozen is <<6+6=12>>12.", "They lay <<4*6=24>>24 eggs.", answer="24")
    assert [line.partition(" = ")[2] for line in found] == ["4 * 6"]
