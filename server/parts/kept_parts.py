"""Kept parts: the sandbox and the answer checker as searches use them, looked after; opened and closed elsewhere.

Either starts its processes again by itself when it is next used; here nobody has to be refused to find out that it
cannot, or that it can again.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sandbox import Outcome, Sandbox, SandboxUnavailable
from search import CodeRunner, Verdict
from server.answers.equality import EqualityPool, EqualityUnavailable
from server.engines.health import HealthWatch
from server.parts.runner import SandboxRunner
from server.parts.serving import Part


class KeptSandbox:
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
        """A runner for one search; leaving ends every process of it."""
        with self.watch.calling():
            async with self._sandbox.tree(seed=seed) as tree:
                yield SandboxRunner(tree)

    async def _run_a_step(self) -> None:
        """A living process makes no steps yet: it may lack the memory for them."""
        async with self._sandbox.tree() as tree:
            result = await tree.run(None, "1")
        if result.outcome is not Outcome.OK:
            raise SandboxUnavailable(f"a step that does nothing ended with {result.outcome}: {result.error}")


class KeptEquality:
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
