"""Sandbox: runs the steps of many trees, a bounded number at a time, each in its own confined process.

Owns the zygote and replaces one that died; the steps that it ran are lost. The trees are not lost, because their states
are code. Closing leaves no process behind.
"""

import asyncio
import itertools
from types import TracebackType
from typing import Self

from sandbox.cache import CacheLimits
from sandbox.confinement import Mechanism
from sandbox.errors import SandboxMisuse, SandboxUnavailable, ZygoteEnded
from sandbox.family import Family, FamilyEnd
from sandbox.levels import Level, SelfTest, assess, refusal, run_self_test
from sandbox.slots import Slots
from sandbox.snapshots import Snapshots
from sandbox.status import Counters, Status
from sandbox.step import Limits
from sandbox.tree import Tree
from sandbox.zygote_process import ZygoteProcess

_POOL = 2
"""Trees kept ready: searches seldom start more at once, and each costs a process."""

_ZYGOTES = 3
"""How many are asked for a tree: one may have died just now, and another while it was starting."""


class Sandbox:
    """An async context manager; belongs to one event loop."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        workers: int = 2,
        cache: CacheLimits | None = None,
        min_level: Level = Level.FULL,
        switched_off: frozenset[Mechanism] = frozenset(),
    ) -> None:
        """`workers` is the number of steps that run at once, at least 1, else ValueError; others wait their turn.

        With less protection than `min_level` the sandbox does not start. `switched_off` lets tests see that each
        mechanism matters.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.limits = limits or Limits()
        self.min_level = min_level
        self.slots = Slots(workers)
        self.counters = Counters()
        self.cache_limits = cache or CacheLimits()
        self.snapshots = Snapshots(self.cache_limits, self.counters)
        self._switched_off = switched_off
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None
        self._self_test = SelfTest(protections=(), fork_gate="none")
        self._tested_without: frozenset[Mechanism] | None = None
        """Mechanisms that were off at the last self-test."""
        self._level = Level.NONE
        self._trees: dict[str, Tree] = {}
        """Least recently started first."""
        self._tree_numbers = itertools.count(1)
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Start the zygote and test what holds. Raises SandboxUnavailable."""
        self._is_open = True
        try:
            await self._living_zygote()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every step, tree and process."""
        self._is_open = False
        try:
            for tree in list(self._trees.values()):
                await tree.close()
        finally:
            if self._zygote is not None:
                await self._zygote.close()

    def tree(self, *, seed: int = 0) -> Tree:
        """A new session; the same seed and the same path of code give the same random numbers.

        Raises SandboxMisuse where the sandbox is not open.
        """
        if not self._is_open:
            raise SandboxMisuse("the sandbox is not open: use `async with`")
        tree = Tree(self, name=f"t{next(self._tree_numbers)}", seed=seed)
        self._trees[tree.name] = tree
        return tree

    @property
    def status(self) -> Status:
        """The present status, for health answers and metrics."""
        report = self._zygote.report if self._zygote is not None else None
        return Status(
            level=self._level,
            protections=self._self_test.protections,
            landlock_version=report.landlock_version if report else None,
            fork_gate=self._self_test.fork_gate,
            missing_modules=report.missing if report else (),
            limits=self.limits,
            cache_limits=self.cache_limits,
            live_snapshots=len(self.snapshots),
            live_bytes=self.snapshots.live_bytes,
            live_trees=sum(tree.has_processes for tree in self._trees.values()),
            queue_depth=self.slots.queue_depth,
            busy_workers=self.slots.busy,
            idle_workers=self.slots.idle,
            counters=self.counters,
        )

    @property
    def zygote_pid(self) -> int | None:
        """The first process of the session that every other is in, for supervision; killing it kills them all."""
        return self._zygote.pid if self._zygote is not None and self._zygote.is_alive else None

    async def family(self, tree: Tree) -> Family:
        """Called by trees: fresh processes. Raises SandboxUnavailable."""
        alive = [other for other in self._trees.values() if other.has_processes]
        idle = [other for other in alive if not other.is_running]
        for other in idle[: max(0, len(alive) + 1 - self.cache_limits.trees)]:
            other.release_processes(FamilyEnd.CLOSED)
        for _ in range(_ZYGOTES - 1):
            try:
                return await self._new_family(tree)
            except ZygoteEnded:
                continue
        return await self._new_family(tree)

    def release(self, family: Family, end: FamilyEnd) -> None:
        """Called by trees: kill its processes."""
        assert self._zygote is not None, "families come from zygotes"
        self._zygote.release(family, end)

    def forget(self, tree: Tree) -> None:
        """Called by a tree that closes."""
        self._trees.pop(tree.name, None)

    async def _new_family(self, tree: Tree) -> Family:
        zygote = await self._living_zygote()
        family = await zygote.family(self.limits, on_violation=self._count_violation)
        self._trees[tree.name] = self._trees.pop(tree.name, tree)
        return family

    def _count_violation(self) -> None:
        self.counters.violations += 1

    async def _living_zygote(self) -> ZygoteProcess:
        # The lock keeps two steps that find the zygote dead from starting two new ones.
        async with self._starting:
            if not self._is_open:
                raise SandboxMisuse("the sandbox is closed")
            if self._zygote is None or not self._zygote.is_alive:
                if self._zygote is not None:
                    self.counters.zygote_restarts += 1
                    await self._zygote.close()
                self._zygote = await ZygoteProcess.start(switched_off=self._switched_off, pool=_POOL)
                if self._tested_without != self._zygote.report.off.keys():
                    await self._test(self._zygote)
            return self._zygote

    async def _test(self, zygote: ZygoteProcess) -> None:
        """Run the self-test: at the start, and if a later zygote could not use the same mechanisms as the first."""
        try:
            self._self_test = await run_self_test(zygote)
            protections = self._self_test.protections
            self._level = assess(protections)
            if not self._level.is_at_least(self.min_level):
                raise SandboxUnavailable(refusal(self._level, self.min_level, protections))
        except BaseException:
            await zygote.close()
            raise
        self._tested_without = frozenset(zygote.report.off)
