"""Runner: the sandbox as search's `CodeRunner`, one per search tree. Translates results; decides nothing."""

from typing import assert_never

from sandbox import Limits, Outcome, SnapshotId, Tree
from search.outcomes import ExecutionOutcome
from search.protocols import Execution, Snapshot

STEP_LIMITS = Limits(cpu_s=3.0, wall_s=15.0)
"""Of one step, when serving and when making training data. Steps take milliseconds; one in an endless loop holds up its
search, and a run of thousands of them, so it gets seconds and not more."""


class SandboxRunner:
    """Runs the steps of one search in one sandbox tree; whoever opened the tree closes it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """See `CodeRunner.run`. Cancelling kills the step. Raises SandboxError when the sandbox itself is broken."""
        result = await self._tree.run(None if parent is None else SnapshotId(parent), code)
        return Execution(
            outcome=_execution_outcome(result.outcome),
            stdout=result.stdout,
            value=result.value,
            error=result.error,
            cpu_seconds=result.cpu_seconds,
            snapshot=None if result.snapshot is None else Snapshot(result.snapshot),
        )


def _execution_outcome(outcome: Outcome) -> ExecutionOutcome:  # noqa: PLR0912  # one case per member
    match outcome:
        case Outcome.OK:
            return ExecutionOutcome.OK
        case Outcome.ERROR:
            return ExecutionOutcome.ERROR
        case Outcome.TIMEOUT_CPU:
            return ExecutionOutcome.TIMEOUT_CPU
        case Outcome.TIMEOUT_WALL:
            return ExecutionOutcome.TIMEOUT_WALL
        case Outcome.MEMORY:
            return ExecutionOutcome.MEMORY
        case Outcome.OUTPUT_LIMIT:
            return ExecutionOutcome.OUTPUT_LIMIT
        case Outcome.CRASHED:
            return ExecutionOutcome.CRASHED
        case Outcome.VIOLATION:
            return ExecutionOutcome.VIOLATION
        case Outcome.LOST:
            return ExecutionOutcome.LOST
    assert_never(outcome)
