"""The text shown to the models after the code."""

import pytest

from search.format import MAX_OBSERVATION_CHARS, observation
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
def test_an_observation_is_what_was_printed_or_else_the_last_value(executions: list[Execution], text: str) -> None:
    assert observation(executions) == text


def test_an_observation_is_capped_and_never_ends_in_white_space() -> None:
    assert observation([_execution("x" * 5000)]) == "x" * MAX_OBSERVATION_CHARS
    assert observation([_execution(value="x" * 5000)]) == "x" * MAX_OBSERVATION_CHARS
    assert observation([_execution("x" * 1990 + " " * 100 + "y")]) == "x" * 1990
