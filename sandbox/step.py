"""Step: the limits of one step, and its result.

A result depends first on what the kernel and the server saw, and only then on the report of the step's process: that
process shares its memory with hostile code.
"""

import math
import signal
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NewType, assert_never

from sandbox.wire import (
    EXIT_MEMORY,
    MAX_FRAME_BYTES,
    REPORT_OVERHEAD_BYTES,
    RUN_OVERHEAD_BYTES,
    ReportStatus,
    decode_report,
)

SnapshotId = NewType("SnapshotId", str)
"""Names the interpreter state after a step of one tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one step. Every limit must be positive and finite, else ValueError."""

    cpu_s: float = 10.0
    """CPU time, the main limit: unlike wall time it does not depend on the neighbours."""
    wall_s: float = 30.0
    """Wall-clock time from the step's first statement; a backstop for sleeping steps, so a few times `cpu_s`."""
    memory_mb: int = 512
    """Address space of the whole path's state, beyond that of the preloaded interpreter."""
    output_bytes: int = 16384
    """UTF-8 length of the printed text; the value of the last expression is cut at the same length."""
    code_bytes: int = 65536
    """UTF-8 length of the code."""
    stack_mb: int = 8
    """Stack of the process."""
    open_files: int = 64
    """Open descriptors."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"limit {field.name} must be positive and finite, not {value}")
        if max(self.code_bytes + RUN_OVERHEAD_BYTES, 2 * self.output_bytes + REPORT_OVERHEAD_BYTES) > MAX_FRAME_BYTES:
            raise ValueError(f"code_bytes and twice output_bytes must fit into {MAX_FRAME_BYTES} bytes")


class Outcome(StrEnum):
    """Why a step ended."""

    OK = "ok"
    """Ran to its end."""
    ERROR = "error"
    """Raised an exception; `sys.exit()` counts as one."""
    TIMEOUT_CPU = "timeout_cpu"
    """Used up its CPU time."""
    TIMEOUT_WALL = "timeout_wall"
    """Used up its wall-clock time."""
    MEMORY = "memory"
    """Asked for more memory than allowed."""
    OUTPUT_LIMIT = "output_limit"
    """Printed more than the cap; the text before it is kept."""
    CRASHED = "crashed"
    """The process ended without reporting a result."""
    VIOLATION = "violation"
    """Broke a rule of the sandbox: over-long code, a forged report, or endless tries to make processes."""
    LOST = "lost"
    """Never ran, or was ended through no fault of its own: the state before it could not be rebuilt, its tree was
    closed, or the sandbox's own process died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of one step."""

    outcome: Outcome
    stdout: str = ""
    """Exactly what the step printed, up to the cap."""
    value: str | None = None
    """`repr` of the step's last statement, where that is an expression and not None."""
    error: str | None = None
    """`Type: message` where the step raised; the reason in words for other failures; None when ok."""
    cpu_seconds: float = 0.0
    """CPU time of this step alone, in seconds; never negative."""
    snapshot: SnapshotId | None = None
    """The state after the step; None unless ok."""


class StopReason(StrEnum):
    """Why the server stopped a step's process."""

    CPU_DEADLINE = "cpu_deadline"
    """The step used up its CPU time."""
    WALL_DEADLINE = "wall_deadline"
    """The step took too long."""
    VIOLATION = "violation"
    """The step kept trying refused calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExit:
    """How a step's process reported, was stopped, or exited, as the kernel and the server saw it."""

    stop: StopReason | None
    frame: bytes
    """The report that the process sent; empty if it exited instead."""
    exit_code: int | None
    """Exit code of a process that exited; None if the kernel does not report it."""
    cpu_seconds: float
    """CPU time by the kernel's clock; only if the step ran for longer than it may use CPU time, else 0."""
    wall_seconds: float


_REPORTED_OUTCOMES = {
    ReportStatus.OK: Outcome.OK,
    ReportStatus.ERROR: Outcome.ERROR,
    ReportStatus.MEMORY: Outcome.MEMORY,
    ReportStatus.OUTPUT_LIMIT: Outcome.OUTPUT_LIMIT,
}


def result_of(step_exit: StepExit, limits: Limits) -> StepResult:
    """The step's result, without a snapshot."""
    failure = _failure(step_exit, limits)
    if failure is not None:
        outcome, error = failure
        return StepResult(outcome=outcome, error=error, cpu_seconds=step_exit.cpu_seconds)
    report = decode_report(step_exit.frame, output_bytes=limits.output_bytes)
    if report is None:
        return StepResult(outcome=Outcome.VIOLATION, error="malformed report", cpu_seconds=step_exit.cpu_seconds)
    # No thread can use more CPU time than has passed.
    cpu_seconds = min(report.cpu_seconds, step_exit.wall_seconds)
    if max(cpu_seconds, step_exit.cpu_seconds) > limits.cpu_s:
        error = _cpu_words(limits)
        return StepResult(outcome=Outcome.TIMEOUT_CPU, stdout=report.stdout, error=error, cpu_seconds=cpu_seconds)
    outcome, value, error = _REPORTED_OUTCOMES[report.status], None, report.error
    if outcome is Outcome.OK:
        value, error = report.value, None
    elif outcome is Outcome.OUTPUT_LIMIT:
        error = f"more than {limits.output_bytes} bytes printed"
    return StepResult(outcome=outcome, stdout=report.stdout, value=value, error=error, cpu_seconds=cpu_seconds)


def _failure(step_exit: StepExit, limits: Limits) -> tuple[Outcome, str] | None:
    """The failure that a stopped or exited process shows; None if it sent a report."""
    match step_exit.stop:
        case StopReason.WALL_DEADLINE if step_exit.cpu_seconds <= limits.cpu_s:
            return Outcome.TIMEOUT_WALL, f"more than {limits.wall_s:g} s of wall-clock time"
        case StopReason.CPU_DEADLINE | StopReason.WALL_DEADLINE:
            # On a busy machine both run out at the same check; CPU time is the main limit.
            return Outcome.TIMEOUT_CPU, _cpu_words(limits)
        case StopReason.VIOLATION:
            return Outcome.VIOLATION, "kept trying to make processes"
        case None:
            return None if step_exit.frame else _exit_failure(step_exit.exit_code, limits)
    assert_never(step_exit.stop)


def _exit_failure(code: int | None, limits: Limits) -> tuple[Outcome, str]:
    if code is None:
        return Outcome.CRASHED, "ended without a report"
    if code == -signal.SIGXCPU:
        return Outcome.TIMEOUT_CPU, _cpu_words(limits)
    if code == EXIT_MEMORY:
        return Outcome.MEMORY, f"more than {limits.memory_mb} MB"
    if code >= 0:
        return Outcome.CRASHED, f"exited with code {code} and no report"
    # Real-time signals have numbers only.
    is_named = -code in {int(known) for known in signal.Signals}
    return Outcome.CRASHED, f"killed by {signal.Signals(-code).name if is_named else f'signal {-code}'}"


def _cpu_words(limits: Limits) -> str:
    return f"more than {limits.cpu_s:g} s of CPU time"
