"""Restarting: the sandbox and the answer checker, which are started again in the background when they end.

A call of a part that has ended starts it again too. A part that cannot be started is at fault until it can, so that
`/readyz` shows it before a search fails. This module neither opens nor closes a part.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sandbox import Outcome, Sandbox, SandboxUnavailable
from search import CodeRunner, Verdict
from server.answers.equality import EqualityPool, EqualityUnavailable
from server.engines.health import HealthWatch
from server.parts.runner import SandboxRunner
from server.parts.serving import Part


class RestartingSandbox:
    """Runs the code of searches."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.watch = HealthWatch(
            Part.SANDBOX,
            is_up=lambda: sandbox.zygote_pid is not None,
            start=self._run_a_step,
            restarts=lambda: sandbox.counters.zygote_restarts,
            unavailable=SandboxUnavailable,
        )

    @asynccontextmanager
    async def open_runner(self, seed: int) -> AsyncGenerator[CodeRunner]:
        """A runner for one search. Leaving ends all its processes."""
        with self.watch.calling():
            async with self._sandbox.tree(seed=seed) as tree:
                yield SandboxRunner(tree)

    async def _run_a_step(self) -> None:
        """A sandbox whose process lives may still lack the memory to run steps."""
        async with self._sandbox.tree() as tree:
            result = await tree.run(None, "1")
        if result.outcome is not Outcome.OK:
            raise SandboxUnavailable(f"a step that does nothing ended with {result.outcome}: {result.error}")


class RestartingEquality:
    """Compares answers; see `AnswerEquality`."""

    def __init__(self, pool: EqualityPool) -> None:
        self._pool = pool
        self.watch = HealthWatch(
            Part.EQUALITY,
            is_up=lambda: pool.is_ready,
            start=pool.warm_up,
            restarts=lambda: pool.restarts,
            unavailable=EqualityUnavailable,
        )

    async def same(self, a: str, b: str) -> Verdict:
        """See `EqualityPool.same`."""
        with self.watch.calling():
            return await self._pool.same(a, b)
