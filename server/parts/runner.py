"""Runner: the sandbox as search's `CodeRunner`, one per search tree. It only translates results."""

from sandbox import Limits, SnapshotId, Tree
from search import Execution, ExecutionOutcome, Snapshot

STEP_LIMITS = Limits(cpu_s=3.0, wall_s=15.0)
"""The limits of one step, when serving and when making training data. A step takes milliseconds; one in an endless loop
delays its search, so it gets no more than seconds."""


class SandboxRunner:
    """Runs the steps of one search in one sandbox tree. The caller that opened the tree closes it.

    Example: `await SandboxRunner(tree).run(None, "x = 6")` gives an execution whose snapshot is the parent of the next
    step.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """See `CodeRunner.run`. Cancelling kills the step. Raises SandboxError when the sandbox itself is broken."""
        result = await self._tree.run(None if parent is None else SnapshotId(parent), code)
        return Execution(
            outcome=ExecutionOutcome(result.outcome.value),  # a test holds the two enums to the same members
            stdout=result.stdout,
            value=result.value,
            error=result.error,
            cpu_seconds=result.cpu_seconds,
            snapshot=None if result.snapshot is None else Snapshot(result.snapshot),
        )
