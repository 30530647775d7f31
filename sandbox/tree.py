"""Tree: one search's steps and the states between them.

A state is named by a `SnapshotId` and is first of all the path of code that leads to it. While it is alive, a new step
is forked from it; when it is not, the steps since its nearest live ancestor are replayed, with the same seeds, and must
end as they did. A state is never changed by what runs after it. Trees share nothing.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from sandbox.errors import SandboxMisuse, SandboxUnavailable
from sandbox.family import Family, FamilyEnd, FamilyEnded, ForkFailed, Task
from sandbox.node_process import NodeProcess
from sandbox.slots import Slots
from sandbox.snapshots import Snapshots
from sandbox.status import Counters
from sandbox.step import Limits, Outcome, SnapshotId, StepResult, result_of

_log = logging.getLogger(__name__)

_CHEAP_S = 0.003
"""Replaying this much costs less than the fork that a live snapshot would take, and keeps chains of forks short."""

_SEGMENT_S = 0.05
"""A replay longer than this leaves a live snapshot on its way, and goes on in a fresh process with fresh limits."""

_ATTEMPTS = 3
"""A node can die in its sleep, by a timer that its step left behind; a second death is the step's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The state after a step that ended well."""

    parent: SnapshotId | None
    task: Task
    digest: bytes
    result: StepResult


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """Where a step's process comes from."""

    node: NodeProcess
    state: SnapshotId | None
    replay: tuple[SnapshotId, ...] = ()
    """States to replay in the fork before the step."""
    is_temporary: bool = False
    """`node` is too big to keep: it is killed once it is forked."""


class TreeServices(Protocol):
    """What a tree needs of its sandbox."""

    limits: Limits
    slots: Slots
    snapshots: Snapshots
    counters: Counters

    async def family(self, tree: "Tree") -> Family:
        """Fresh processes for a tree. Raises SandboxUnavailable."""
        ...

    def release(self, family: Family, end: FamilyEnd) -> None:
        """Kill them."""

    def forget(self, tree: "Tree") -> None:
        """The tree is closed."""


class _Lost(Exception):
    """The state before a step could not be rebuilt; says why."""


class Tree:
    """A session on the sandbox; also an async context manager that closes it."""

    def __init__(self, services: TreeServices, *, name: str, seed: int) -> None:
        """Made by `Sandbox.tree`."""
        self.name = name
        self._services = services
        self._limits = services.limits
        self._snapshots = services.snapshots
        self._counters = services.counters
        self._root_digest = hashlib.sha256(str(seed).encode()).digest()
        self._states: dict[SnapshotId, _State] = {}
        self._family: Family | None = None
        self._starting = asyncio.Lock()  # invariant: one family at a time
        self._rebuilding = asyncio.Lock()  # invariant: a state that two steps want is rebuilt once
        self._places: set[asyncio.Future[bool]] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_closed = False

    async def run(self, parent: SnapshotId | None, code: str) -> StepResult:
        """Run `code` once in the state named by `parent` (None: a fresh interpreter).

        Cancelling kills the step. Raises SandboxMisuse for a closed tree or another tree's snapshot, and
        SandboxUnavailable when no confined process can be started; never for what the step does.
        """
        if self._is_closed:
            raise SandboxMisuse(f"tree {self.name} is closed")
        if parent is not None and parent not in self._states:
            raise SandboxMisuse(f"tree {self.name} has no snapshot {parent}; snapshots belong to one tree")
        result = await self._run(parent, code)
        self._counters.steps[result.outcome] += 1
        return result

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, forget every state. Running calls end as LOST."""
        self._is_closed = True
        for place in self._places:
            if not place.done():
                place.set_result(False)
        family = self._family
        self.release_processes(FamilyEnd.CLOSED)
        await self._is_idle.wait()
        self.release_processes(FamilyEnd.CLOSED)
        if family is not None:
            await family.gone()
        self._states.clear()
        self._services.forget(self)

    def release_processes(self, end: FamilyEnd) -> None:
        """Kill every process; states are rebuilt when they are needed."""
        if self._family is not None:
            self._snapshots.forget_family(self._family)
            self._services.release(self._family, end)
            self._family = None

    @property
    def is_running(self) -> bool:
        """A step of it runs, or waits to."""
        return bool(self._places)

    @property
    def has_processes(self) -> bool:
        return self._family is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, parent: SnapshotId | None, code: str) -> StepResult:
        encoded = code.encode("utf-8", "surrogatepass")
        if len(encoded) > self._limits.code_bytes:
            error = f"the code has {len(encoded)} bytes, more than {self._limits.code_bytes}"
            return StepResult(outcome=Outcome.VIOLATION, error=error)
        digest = hashlib.sha256((self._states[parent].digest if parent else self._root_digest) + encoded).digest()
        task = Task(seed=int.from_bytes(digest[:8], "little"), code=code)
        queued_s = time.monotonic()
        with self._place() as place:
            if not await place:
                return _lost("the tree was closed")
            self._counters.count_wait(time.monotonic() - queued_s)
            return await self._execute(parent, task, digest)

    @contextmanager
    def _place(self) -> Generator[asyncio.Future[bool]]:
        place = self._services.slots.queue()
        self._places.add(place)
        self._is_idle.clear()
        try:
            yield place
        finally:
            self._services.slots.leave(place)
            self._places.discard(place)
            if not self._places:
                self._is_idle.set()

    async def _execute(self, parent: SnapshotId | None, task: Task, digest: bytes) -> StepResult:
        """Run a step that has its slot, again where its processes were lost through no fault of its own."""
        for _ in range(_ATTEMPTS):
            if self._is_closed:
                return _lost("the tree was closed")
            try:
                return await self._run_once(await self._living_family(), parent, task, digest)
            except (ForkFailed, FamilyEnded):
                continue
            except OSError as error:
                raise SandboxUnavailable(f"the server cannot make processes or talk to them: {error}") from error
            except _Lost as reason:
                _log.warning("a replayed step ended differently: %s", reason, extra={"tree": self.name})
                return _lost(f"the state before the step could not be rebuilt: {reason}")
        return _lost(f"its process could not be forked in {_ATTEMPTS} attempts")

    async def _run_once(self, family: Family, parent: SnapshotId | None, task: Task, digest: bytes) -> StepResult:
        start = await self._start(family, parent)
        try:
            node = await self._fork(family, start.node, start.state)
        finally:
            if start.is_temporary:
                family.discard(start.node)
        is_kept = False
        try:
            for key in start.replay:
                await self._replay(family, node, key)
                node.resume()
            result = await self._run_step(family, node, task)
            if result.outcome is Outcome.OK:
                key = SnapshotId(f"{self.name}.{len(self._states) + 1}")
                self._states[key] = _State(parent=parent, task=task, digest=digest, result=result)
                is_kept = self._keep(family, node, key)
                result = replace(result, snapshot=key)
            self._counters.violations += result.outcome is Outcome.VIOLATION
            return result
        finally:
            self._let_go(family, node, is_kept=is_kept)

    async def _run_step(self, family: Family, node: NodeProcess, task: Task) -> StepResult:
        try:
            return await self._run_task(family, node, task)
        except FamilyEnded:
            if family.end is not FamilyEnd.ZYGOTE:
                raise
            # Not run again: it may have ended the zygote itself, by taking the machine's memory.
            return _lost("the sandbox's zygote ended")

    async def _run_task(self, family: Family, node: NodeProcess, task: Task) -> StepResult:
        step_exit = await family.run(node, task, on_usage=lambda usage: self._snapshots.note_running(node.pid, usage))
        return result_of(step_exit, self._limits)

    async def _start(self, family: Family, parent: SnapshotId | None) -> _Start:
        """Where to fork, and what to replay in the fork; a long way is rebuilt first."""
        base, missing = self._nearest(family, parent)
        if parent is not None:
            self._counters.hits += not missing
            self._counters.misses += bool(missing)
        while self._cost_s(missing) >= _CHEAP_S:
            async with self._rebuilding:
                base, missing = self._nearest(family, parent)
                node = await self._rebuild(family, base, missing) if missing else None
            if node is not None:
                return _Start(node=node, state=parent, is_temporary=True)
            base, missing = self._nearest(family, parent)
        return _Start(node=self._live(family, base), state=base, replay=tuple(missing))

    async def _rebuild(self, family: Family, base: SnapshotId | None, missing: list[SnapshotId]) -> NodeProcess | None:
        """Replay until a state on the way is alive; states too big to keep are passed by.

        Returns the process of the wanted state where that is too big itself.
        """
        node = await self._fork(family, self._live(family, base), base)
        is_done = False
        spent_s = 0.0
        try:
            for key in missing:
                await self._replay(family, node, key)
                spent_s += self._cost_s([key])
                is_last = key == missing[-1]
                if spent_s < _SEGMENT_S and not is_last:
                    node.resume()
                    continue
                is_kept = self._keep(family, node, key)
                is_done = is_kept or is_last
                if is_done:
                    return None if is_kept else node
                previous, node = node, await self._fork(family, node, None)
                family.discard(previous)
                spent_s = 0.0
            return None
        finally:
            self._let_go(family, node, is_kept=is_done)

    async def _replay(self, family: Family, node: NodeProcess, key: SnapshotId) -> None:
        """Run an earlier step again; it must end as it did."""
        self._counters.replayed_steps += 1
        state = self._states[key]
        result = await self._run_task(family, node, state.task)
        if replace(result, cpu_seconds=state.result.cpu_seconds) != state.result:
            raise _Lost(result.error or "a step gave another output than before")

    async def _fork(self, family: Family, parent: NodeProcess, state: SnapshotId | None) -> NodeProcess:
        parent.pins += 1
        try:
            return await family.fork(parent)
        except ForkFailed:
            if state is not None:
                self._snapshots.forget(state)
            raise
        finally:
            parent.pins -= 1

    def _keep(self, family: Family, node: NodeProcess, key: SnapshotId) -> bool:
        """Whether it is kept; if not, the caller has to end it."""
        if family.end is not None or family is not self._family:
            return False
        parent, steps = self._nearest(family, self._states[key].parent)
        cost_s = self._cost_s([*steps, key])
        return self._snapshots.keep(key, node, family, tree=self.name, parent=parent, cost_s=cost_s)

    def _let_go(self, family: Family, node: NodeProcess, *, is_kept: bool) -> None:
        self._snapshots.forget_running(node.pid)
        if not is_kept:
            family.discard(node)

    def _nearest(self, family: Family, state: SnapshotId | None) -> tuple[SnapshotId | None, list[SnapshotId]]:
        """The nearest live state on the path to `state`, itself included, and the steps from there."""
        missing: list[SnapshotId] = []
        while state is not None and self._snapshots.get(state, family) is None:
            missing.append(state)
            state = self._states[state].parent
        return state, missing[::-1]

    def _live(self, family: Family, state: SnapshotId | None) -> NodeProcess:
        """The process of a state that `_nearest` has just named, without an await in between."""
        node = family.root if state is None else self._snapshots.get(state, family)
        assert node is not None
        return node

    def _cost_s(self, steps: Iterable[SnapshotId]) -> float:
        return sum(self._states[step].result.cpu_seconds for step in steps)

    async def _living_family(self) -> Family:
        async with self._starting:
            if self._family is not None and self._family.end is not None:
                self._counters.resets += self._family.end is FamilyEnd.RESET
                self.release_processes(FamilyEnd.RESET)
            if self._family is None:
                self._family = await self._services.family(self)
            return self._family


def _lost(reason: str) -> StepResult:
    return StepResult(outcome=Outcome.LOST, error=reason)
