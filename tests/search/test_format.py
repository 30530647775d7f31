"""The step format: the output shown to the models, and the boxed answer."""

import pytest

from search.format import MAX_OBSERVATION_CHARS, extract_boxed, observation
from search.outcomes import ExecutionOutcome
from search.protocols import Execution


def _execution(stdout: str = "", value: str | None = None) -> Execution:
    return Execution(outcome=ExecutionOutcome.OK, stdout=stdout, value=value)


@pytest.mark.parametrize(
    ("executions", "text"),
    [
        ([], ""),
        ([_execution()], ""),
        ([_execution("1\n"), _execution("2\n")], "1\n2"),
        ([_execution("  padded  \n\n")], "  padded"),
        ([_execution("printed\n"), _execution(value="7")], "printed"),
        ([_execution(value="6"), _execution(value="7")], "7"),
        ([_execution(value="6"), _execution()], ""),
        ([_execution("\n \n", value="7")], "7"),
        ([_execution("10000000000000000000001 1.23e-05\n")], "10000000000000000000001 1.23e-05"),
    ],
)
def test_an_observation_is_the_output_or_else_the_last_value(executions: list[Execution], text: str) -> None:
    assert observation(executions) == text


def test_an_observation_is_capped_and_never_ends_in_white_space() -> None:
    assert observation([_execution("x" * 5000)]) == "x" * MAX_OBSERVATION_CHARS
    assert observation([_execution(value="x" * 5000)]) == "x" * MAX_OBSERVATION_CHARS
    assert observation([_execution("x" * 1990 + " " * 100 + "y")]) == "x" * 1990


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"The answer is $\boxed{ \frac{1}{2} }$.", r"\frac{1}{2}"),
        (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}"),
        (r"First \boxed{1}, then \boxed{2}.", "2"),
        ("Six times seven is 42.\nWe have checked this. So it is\n\\boxed{42}.\nDone.", "42"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{a \\ b}", r"a \\ b"),
        (r"\boxed 5", "5"),
        (r"So $\boxed 5$.", "5"),
        (r"\boxed {x+1}", "x+1"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        (r"\boxed{1} and \boxed{}", None),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{1\}", None),
        (r"\boxed", None),
        (r"\boxedtext{5}", None),
        ("no box here", None),
        ("", None),
    ],
)
def test_the_last_box_is_the_answer(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


def test_a_very_long_unclosed_box_is_rejected_quickly() -> None:
    assert extract_boxed("\\boxed{" * 20_000 + "{" * 100_000) is None
