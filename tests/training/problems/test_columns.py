"""Question, answer and solution are found in the forms that known data sets use."""

import pytest

from training.problems.columns import Fields, UnreadableRecord, answer_in, fields_of


def test_gsm8k_states_its_answer_behind_the_solution() -> None:
    record = {"question": "How many?", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 1,024"}
    assert fields_of(record) == Fields(question="How many?", answer="1024", solution="48/2 = <<48/2=24>>24 clips.")


def test_math_states_its_answer_in_a_box() -> None:
    record = {"problem": "Find x.", "level": "Level 5", "type": "Algebra", "solution": r"So $x = \boxed{\frac{1}{2}}$."}
    assert fields_of(record).answer == r"\frac{1}{2}"


def test_metamath_states_its_answer_in_the_last_line() -> None:
    record = {"query": "How many?", "original_question": "What?", "response": "2 + 3 = 5.\n#### 5\nThe answer is: 5"}
    assert fields_of(record) == Fields(
        question="How many?", answer="5", solution="2 + 3 = 5.\n#### 5\nThe answer is: 5"
    )


def test_a_stated_answer_goes_before_that_of_the_solution() -> None:
    record = {"problem": "Find x.", "answer": "0.5", "solution": r"$\boxed{1/2}$"}
    assert fields_of(record).answer == "0.5"


@pytest.mark.parametrize(
    ("stated", "answer"),
    [
        (" 42 ", "42"),
        (42, "42"),
        (42.0, "42"),
        (-0.125, "-0.125"),
        (["42"], "42"),
        ([1, "x"], "1, x"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
    ],
)
def test_an_answer_is_text_a_number_or_a_list(stated: object, answer: str) -> None:
    assert fields_of({"problem": "What?", "answer": stated}).answer == answer


@pytest.mark.parametrize("stated", [None, "", "  ", "proof", "notfound", []])
def test_some_records_state_no_answer(stated: object) -> None:
    assert fields_of({"problem": "Show it.", "answer": stated, "solution": "Clear."}).answer is None


@pytest.mark.parametrize("stated", [{"value": 3}, True, float("nan")])
def test_an_answer_of_another_type_is_refused(stated: object) -> None:
    with pytest.raises(UnreadableRecord, match=type(stated).__name__ if stated is not True else "True"):
        fields_of({"problem": "What?", "answer": stated})


def test_a_record_without_a_question_is_refused_by_its_columns() -> None:
    with pytest.raises(UnreadableRecord, match=r"no question; expected \"problem\" or .*found prompt, answer"):
        fields_of({"prompt": "What?", "answer": "4"})


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"First \boxed{1}, then \boxed{x_{2}}.", "x_{2}"),
        ("so The answer is: 7.", "7"),
        ("The answer is 12", "12"),
        ("#### -1,234.5", "-1234.5"),
        ("#### 1, 2", "1, 2"),
        ("It is clear.", None),
    ],
)
def test_the_last_marked_answer_of_a_solution_counts(solution: str, answer: str | None) -> None:
    assert answer_in(solution) == answer
