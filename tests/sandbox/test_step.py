"""The outcome of a step depends on the kernel and the server first, and on the step's own report last."""

import signal

import pytest

from sandbox import Limits, Outcome
from sandbox.step import StepExit, StopReason, result_of
from sandbox.wire import EXIT_MEMORY, Report, ReportStatus, encode_report

LIMITS = Limits(cpu_s=2, wall_s=5)
GOOD = encode_report(Report(ReportStatus.OK, 0.5, "out", "1", None))


def _exit(
    *,
    stop: StopReason | None = None,
    frame: bytes = GOOD,
    exit_code: int | None = None,
    cpu_seconds: float = 0.0,
    wall_seconds: float = 1.0,
) -> StepExit:
    return StepExit(stop=stop, frame=frame, exit_code=exit_code, cpu_seconds=cpu_seconds, wall_seconds=wall_seconds)


@pytest.mark.parametrize(
    ("step_exit", "outcome"),
    [
        (_exit(), Outcome.OK),
        (_exit(stop=StopReason.CPU_DEADLINE, frame=b""), Outcome.TIMEOUT_CPU),
        (_exit(stop=StopReason.WALL_DEADLINE, frame=b""), Outcome.TIMEOUT_WALL),
        (_exit(stop=StopReason.WALL_DEADLINE, frame=b"", cpu_seconds=1e6), Outcome.TIMEOUT_CPU),
        (_exit(stop=StopReason.VIOLATION, frame=b""), Outcome.VIOLATION),
        (_exit(frame=b"", exit_code=-signal.SIGXCPU), Outcome.TIMEOUT_CPU),
        (_exit(frame=b"", exit_code=-signal.SIGKILL), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=-signal.SIGSEGV), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=-(signal.SIGRTMIN + 5)), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=1), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=0), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=None), Outcome.CRASHED),
        (_exit(frame=b"", exit_code=EXIT_MEMORY), Outcome.MEMORY),
        (_exit(frame=GOOD + b"x"), Outcome.VIOLATION),
        (_exit(frame=GOOD[:-1]), Outcome.VIOLATION),
        (_exit(frame=b"?"), Outcome.VIOLATION),
        (_exit(cpu_seconds=2.1, wall_seconds=3), Outcome.TIMEOUT_CPU),
        (
            _exit(frame=encode_report(Report(ReportStatus.OK, 2.1, "", None, None)), wall_seconds=3),
            Outcome.TIMEOUT_CPU,
        ),
    ],
)
def test_an_ending_is_judged(step_exit: StepExit, outcome: Outcome) -> None:
    result = result_of(step_exit, LIMITS)
    assert result.outcome is outcome
    assert (result.error is None) == (outcome is Outcome.OK)


def test_a_forged_cpu_time_is_at_most_the_time_that_passed() -> None:
    forged = encode_report(Report(ReportStatus.OK, 1e9, "", None, None))
    assert result_of(_exit(frame=forged, wall_seconds=0.1), LIMITS).cpu_seconds == 0.1


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="cpu_s"):
        Limits(cpu_s=value)


def test_code_and_report_must_fit_into_a_frame() -> None:
    for limits in ({"code_bytes": 1 << 20}, {"output_bytes": 1 << 17}):
        with pytest.raises(ValueError, match="fit"):
            Limits(**limits)
