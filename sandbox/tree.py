"""Tree: one search's steps and the states between them.

A state is named by a `SnapshotId` and kept as the path of code that leads to it; running a step rebuilds it in a new
process from that path, with the same seeds, so a state is never changed by what runs after it. Trees share nothing.
"""

import asyncio
import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from sandbox.ending import SnapshotId, StepResult, Stop
from sandbox.errors import SandboxMisuse
from sandbox.limits import Limits
from sandbox.outcomes import Outcome
from sandbox.wire import Step


class Job:
    """One step on its way through the sandbox."""

    def __init__(self, *, program: tuple[Step, ...], replay_cpu_s: float, replay_wall_s: float) -> None:
        self.program = program
        self.replay_cpu_s = replay_cpu_s
        self.replay_wall_s = replay_wall_s
        self.stop_reason: Stop | None = None
        self.kill: Callable[[], None] | None = None
        """Set by the executor while there is a process to kill."""
        self.wall_s = 0.0
        """Set by the executor: from fork to end, replay included."""

    def stop(self, reason: Stop) -> None:
        self.stop_reason = self.stop_reason or reason
        if self.kill is not None:
            self.kill()


class Executor(Protocol):
    """What a tree needs of its sandbox."""

    async def execute(self, job: Job) -> StepResult:
        """Run a job's last step once; when this returns or raises, the step's process is gone."""
        ...

    def forget(self, tree: "Tree") -> None:
        """The tree is closed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The state after a step that ended well."""

    program: tuple[Step, ...]
    digest: bytes
    cpu_s: float
    """CPU time of the whole path; what a replay has to be allowed."""
    wall_s: float
    """Wall time of the whole path, likewise."""


class Tree:
    """A session on the sandbox; also an async context manager that closes it."""

    def __init__(self, executor: Executor, *, name: str, seed: int, limits: Limits) -> None:
        self._executor = executor
        self._name = name
        self._limits = limits
        root = _State(program=(), digest=hashlib.sha256(str(seed).encode()).digest(), cpu_s=0.0, wall_s=0.0)
        self._states: dict[SnapshotId | None, _State] = {None: root}
        self._numbers = itertools.count(1)
        self._running: set[Job] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_closed = False

    async def run(self, parent: SnapshotId | None, code: str) -> StepResult:
        """Run `code` once in the state named by `parent` (None: a fresh interpreter).

        Cancelling kills the step. Raises SandboxMisuse for a closed tree or another tree's snapshot, and
        SandboxUnavailable when no confined process can be had.
        """
        state = self._state(parent)
        length = len(code.encode("utf-8", "surrogatepass"))
        if length > self._limits.code_bytes:
            error = f"the code has {length} bytes, more than {self._limits.code_bytes}"
            return StepResult(outcome=Outcome.VIOLATION, error=error)
        digest = hashlib.sha256(state.digest + code.encode("utf-8", "surrogatepass")).digest()
        program = (*state.program, Step(int.from_bytes(digest[:8], "little"), code))
        job = Job(program=program, replay_cpu_s=state.cpu_s, replay_wall_s=state.wall_s)
        result = await self._run_job(job)
        if result.outcome is not Outcome.OK:
            return result
        snapshot = SnapshotId(f"{self._name}.{next(self._numbers)}")
        self._states[snapshot] = _State(
            program=program,
            digest=digest,
            cpu_s=state.cpu_s + result.cpu_seconds,
            wall_s=job.wall_s,
        )
        return replace(result, snapshot=snapshot)

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, forget every state. Running calls end as LOST."""
        self._is_closed = True
        for job in self._running:
            job.stop(Stop.TREE_CLOSED)
        await self._is_idle.wait()
        self._states.clear()
        self._executor.forget(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run_job(self, job: Job) -> StepResult:
        self._running.add(job)
        self._is_idle.clear()
        try:
            return await self._executor.execute(job)
        finally:
            self._running.discard(job)
            if not self._running:
                self._is_idle.set()

    def _state(self, snapshot: SnapshotId | None) -> _State:
        if self._is_closed:
            raise SandboxMisuse(f"tree {self._name} is closed")
        if snapshot not in self._states:
            raise SandboxMisuse(f"tree {self._name} has no snapshot {snapshot}; snapshots belong to one tree")
        return self._states[snapshot]


def cpu_limit_s(job: Job, limits: Limits) -> int:
    """CPU time for a job's whole process, in the kernel's whole seconds; a replay may run colder than the first run."""
    return math.ceil(limits.cpu_s + 2 * job.replay_cpu_s)
