"""Ending: decides from what the kernel and the server saw, and only then from what the step said, how a step ended."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, assert_never

from sandbox.limits import Limits
from sandbox.outcomes import Outcome
from sandbox.wire import EXIT_MEMORY, Report, Status, decode_report

SnapshotId = NewType("SnapshotId", str)
"""Names the interpreter state after a step of one tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What came of one step."""

    outcome: Outcome
    stdout: str = ""
    """Exactly what the step printed, up to the cap."""
    value: str | None = None
    """`repr` of the step's last statement, where that is an expression and not None."""
    error: str | None = None
    """`Type: message` where the step raised; the reason in words for other failures; None when ok."""
    cpu_seconds: float = 0.0
    """CPU time of this step alone."""
    snapshot: SnapshotId | None = None
    """The state after the step; None unless ok."""


class Stop(StrEnum):
    """Why the server ended a step's process."""

    CPU_DEADLINE = "cpu_deadline"
    """The step used up its CPU time."""
    WALL_DEADLINE = "wall_deadline"
    """The step took too long."""
    VIOLATION = "violation"
    """The step kept asking for what it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts about a step's run."""

    stop: Stop | None
    frame: bytes
    """What the process sent; empty where it ended instead."""
    exit_code: int | None
    """Of a process that ended; None where the kernel does not tell."""
    cpu_seconds: float
    """By the kernel's clock; only where the step ran for longer than it may use CPU time."""
    wall_seconds: float


def judge(ending: Ending, limits: Limits) -> StepResult:
    """The result, without a snapshot."""
    failure = _judge_end(ending, limits)
    if failure is not None:
        outcome, error = failure
        return StepResult(outcome=outcome, error=error, cpu_seconds=ending.cpu_seconds)
    report = decode_report(ending.frame, output_bytes=limits.output_bytes)
    if report is None:
        return StepResult(outcome=Outcome.VIOLATION, error="malformed report", cpu_seconds=ending.cpu_seconds)
    # No thread can use more CPU time than has passed.
    cpu_seconds = min(report.cpu_seconds, ending.wall_seconds)
    if max(cpu_seconds, ending.cpu_seconds) > limits.cpu_s:
        error = _cpu_words(limits)
        return StepResult(outcome=Outcome.TIMEOUT_CPU, stdout=report.stdout, error=error, cpu_seconds=cpu_seconds)
    return _judge_report(report, cpu_seconds, limits)


def _judge_end(ending: Ending, limits: Limits) -> tuple[Outcome, str] | None:
    """What the manner of the process's end says; None where it sent something."""
    match ending.stop:
        case Stop.CPU_DEADLINE:
            return Outcome.TIMEOUT_CPU, _cpu_words(limits)
        case Stop.WALL_DEADLINE if ending.cpu_seconds > limits.cpu_s:
            # On a busy machine both run out at the same look; CPU time is the main limit.
            return Outcome.TIMEOUT_CPU, _cpu_words(limits)
        case Stop.WALL_DEADLINE:
            return Outcome.TIMEOUT_WALL, f"more than {limits.wall_s:g} s of wall-clock time"
        case Stop.VIOLATION:
            return Outcome.VIOLATION, "kept trying to make processes"
        case None:
            return None if ending.frame else _judge_exit_code(ending.exit_code, limits)
    assert_never(ending.stop)


def _judge_exit_code(code: int | None, limits: Limits) -> tuple[Outcome, str]:
    if code is None:
        return Outcome.CRASHED, "ended without a report"
    if code == -signal.SIGXCPU:
        return Outcome.TIMEOUT_CPU, _cpu_words(limits)
    if code == EXIT_MEMORY:
        return Outcome.MEMORY, f"more than {limits.memory_mb} MB"
    if code < 0:
        return Outcome.CRASHED, f"killed by {_signal_name(-code)}"
    return Outcome.CRASHED, f"exited with code {code} and no report"


def _signal_name(number: int) -> str:
    """Real-time signals have numbers only."""
    is_named = number in {int(known) for known in signal.Signals}
    return signal.Signals(number).name if is_named else f"signal {number}"


def _judge_report(report: Report, cpu_seconds: float, limits: Limits) -> StepResult:
    outcome = _outcome_of(report.status)
    error = report.error
    if outcome is Outcome.OUTPUT_LIMIT:
        error = f"more than {limits.output_bytes} bytes printed"
    return StepResult(
        outcome=outcome,
        stdout=report.stdout,
        value=report.value if outcome is Outcome.OK else None,
        error=None if outcome is Outcome.OK else error,
        cpu_seconds=cpu_seconds,
    )


def _outcome_of(status: Status) -> Outcome:
    match status:
        case Status.OK:
            return Outcome.OK
        case Status.ERROR:
            return Outcome.ERROR
        case Status.MEMORY:
            return Outcome.MEMORY
        case Status.OUTPUT_LIMIT:
            return Outcome.OUTPUT_LIMIT
    assert_never(status)


def _cpu_words(limits: Limits) -> str:
    return f"more than {limits.cpu_s:g} s of CPU time"
