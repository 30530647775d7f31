"""Ending: decides from what the kernel and the server saw, and only then from what the step said, how a step ended."""

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, assert_never

from sandbox.limits import Limits
from sandbox.outcomes import Outcome
from sandbox.wire import EXIT_MEMORY, EXIT_UNCONFINED, Exit, Report, Status, decode_report

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
    """CPU time of this step alone; of its whole process, replayed steps included, where it did not report."""
    snapshot: SnapshotId | None = None
    """The state after the step; None unless ok."""


class Stop(StrEnum):
    """Why the server ended a step's process."""

    START_DEADLINE = "start_deadline"
    """The path before the step took too long."""
    WALL_DEADLINE = "wall_deadline"
    """The step took too long."""
    TREE_CLOSED = "tree_closed"
    """Nobody wants the result any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts about a step's process once it is gone."""

    stop: Stop | None
    is_started: bool
    """The path before the step was rebuilt."""
    message: bytes
    """What the process sent after that."""
    notice: Exit | None
    """None where the zygote was gone first."""
    cpu_limit_s: int
    """What the kernel allowed the whole process."""


def judge(ending: Ending, limits: Limits) -> StepResult:
    """The result, without a snapshot."""
    notice = ending.notice
    if ending.stop is Stop.TREE_CLOSED:
        return StepResult(outcome=Outcome.LOST, error="the tree was closed")
    if notice is None:
        return StepResult(outcome=Outcome.LOST, error="the sandbox's zygote ended")
    outcome, error = _judge_exit(ending, notice, limits)
    if not ending.is_started and outcome is not None:
        return StepResult(outcome=Outcome.LOST, error=_lost_words(error), cpu_seconds=notice.cpu_seconds)
    if outcome is not None:
        return StepResult(outcome=outcome, error=error, cpu_seconds=notice.cpu_seconds)
    report = decode_report(ending.message, output_bytes=limits.output_bytes)
    if report is None:
        return StepResult(outcome=Outcome.VIOLATION, error="malformed report", cpu_seconds=notice.cpu_seconds)
    return _judge_report(report, limits)


def _judge_exit(ending: Ending, notice: Exit, limits: Limits) -> tuple[Outcome | None, str]:
    """What the manner of the process's end says; no outcome where it ended as it should, with a report."""
    code = os.waitstatus_to_exitcode(notice.wait_status)
    is_out_of_cpu = code == -signal.SIGKILL and notice.cpu_seconds >= ending.cpu_limit_s
    if code == -signal.SIGXCPU or is_out_of_cpu:
        return Outcome.TIMEOUT_CPU, _cpu_words(limits)
    if ending.stop is not None:
        return Outcome.TIMEOUT_WALL, f"more than {limits.wall_s:g} s of wall-clock time"
    if code == EXIT_MEMORY:
        return Outcome.MEMORY, f"more than {limits.memory_mb} MB"
    if code == EXIT_UNCONFINED:
        return Outcome.LOST, "its process could not be confined"
    if code < 0:
        return Outcome.CRASHED, f"killed by {_signal_name(-code)}"
    if code > 0 or not ending.message:
        return Outcome.CRASHED, f"exited with code {code} and no report"
    return None, ""


def _signal_name(number: int) -> str:
    """Real-time signals have numbers only."""
    is_named = number in {int(known) for known in signal.Signals}
    return signal.Signals(number).name if is_named else f"signal {number}"


def _judge_report(report: Report, limits: Limits) -> StepResult:
    outcome = _outcome_of(report.status)
    error = report.error
    if report.cpu_seconds > limits.cpu_s:
        outcome, error = Outcome.TIMEOUT_CPU, _cpu_words(limits)
    elif outcome is Outcome.LOST:
        error = _lost_words(error or str(Outcome.OUTPUT_LIMIT))
    elif outcome is Outcome.OUTPUT_LIMIT:
        error = f"more than {limits.output_bytes} bytes printed"
    return StepResult(
        outcome=outcome,
        stdout=report.stdout,
        value=report.value if outcome is Outcome.OK else None,
        error=None if outcome is Outcome.OK else error,
        cpu_seconds=report.cpu_seconds,
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
        case Status.REPLAY_FAILED:
            return Outcome.LOST
    assert_never(status)


def _lost_words(reason: str) -> str:
    return f"the state before the step could not be rebuilt: {reason}"


def _cpu_words(limits: Limits) -> str:
    return f"more than {limits.cpu_s:g} s of CPU time"
