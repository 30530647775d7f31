"""How a step ended is judged by the kernel's and the server's facts before the step's own word."""

import signal

import pytest

from sandbox import Limits, Outcome
from sandbox.ending import Ending, Stop, judge
from sandbox.wire import EXIT_MEMORY, EXIT_UNCONFINED, Exit, Report, Status, encode_report

LIMITS = Limits(cpu_s=2, wall_s=5)
GOOD = encode_report(Report(Status.OK, 0.5, "out", "1", None))


def _ending(
    *,
    stop: Stop | None = None,
    is_started: bool = True,
    message: bytes = GOOD,
    wait_status: int | None = 0,
    cpu_seconds: float = 0.5,
) -> Ending:
    notice = None if wait_status is None else Exit(1, wait_status, cpu_seconds)
    return Ending(stop=stop, is_started=is_started, message=message, notice=notice, cpu_limit_s=2)


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (_ending(), Outcome.OK),
        (_ending(stop=Stop.TREE_CLOSED, wait_status=signal.SIGKILL), Outcome.LOST),
        (_ending(wait_status=None), Outcome.LOST),
        (_ending(stop=Stop.START_DEADLINE, is_started=False, wait_status=signal.SIGKILL), Outcome.LOST),
        (_ending(stop=Stop.WALL_DEADLINE, wait_status=signal.SIGKILL), Outcome.TIMEOUT_WALL),
        (_ending(wait_status=signal.SIGXCPU, cpu_seconds=1.99), Outcome.TIMEOUT_CPU),
        (_ending(wait_status=signal.SIGKILL, cpu_seconds=2.9), Outcome.TIMEOUT_CPU),
        (_ending(is_started=False, wait_status=signal.SIGXCPU, cpu_seconds=2), Outcome.LOST),
        (_ending(wait_status=signal.SIGKILL), Outcome.CRASHED),
        (_ending(wait_status=signal.SIGSEGV, message=b""), Outcome.CRASHED),
        (_ending(wait_status=signal.SIGRTMIN + 5, message=b""), Outcome.CRASHED),
        (_ending(wait_status=1 << 8), Outcome.CRASHED),
        (_ending(message=b""), Outcome.CRASHED),
        (_ending(wait_status=EXIT_MEMORY << 8, message=b""), Outcome.MEMORY),
        (_ending(wait_status=EXIT_UNCONFINED << 8, message=b"", is_started=False), Outcome.LOST),
        (_ending(message=GOOD + b"x"), Outcome.VIOLATION),
        (_ending(message=GOOD[:-1]), Outcome.VIOLATION),
        (_ending(message=encode_report(Report(Status.OK, 2.1, "", None, None))), Outcome.TIMEOUT_CPU),
        (_ending(message=encode_report(Report(Status.REPLAY_FAILED, 0, "", None, "E"))), Outcome.LOST),
    ],
)
def test_an_ending_is_judged(ending: Ending, outcome: Outcome) -> None:
    result = judge(ending, LIMITS)
    assert result.outcome is outcome
    assert (result.error is None) == (outcome is Outcome.OK)


def test_a_forged_report_does_not_hide_a_timeout() -> None:
    assert judge(_ending(stop=Stop.WALL_DEADLINE, wait_status=signal.SIGKILL), LIMITS).stdout == ""


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="cpu_s"):
        Limits(cpu_s=value)
