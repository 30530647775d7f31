"""Tree: one search's steps and the states between them.

A state is named by a `SnapshotId` and is first of all the path of code that leads to it. While it is alive, a new step
is forked from it; when it is not, the steps since its nearest live ancestor are replayed, with the same seeds, and must
end as they did. A state is never changed by what runs after it. Trees share nothing.
"""

import asyncio
import hashlib
import itertools
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from sandbox.counters import Counters
from sandbox.ending import SnapshotId, StepResult, judge
from sandbox.errors import SandboxMisuse, SandboxUnavailable
from sandbox.family import Family, FamilyEnd, FamilyEnded, ForkFailed, Task
from sandbox.limits import Limits
from sandbox.outcomes import Outcome
from sandbox.process import NodeProcess
from sandbox.slots import Slots
from sandbox.snapshots import Live, Snapshots

_log = logging.getLogger(__name__)

_CHEAP_S = 0.003
"""Replaying this much costs less than the fork that a live snapshot would take, and keeps chains of forks short."""

_SEGMENT_S = 0.05
"""A replay longer than this leaves a live snapshot on its way, and goes on in a fresh process with fresh limits."""

_ATTEMPTS = 3
"""A node can die in its sleep, by a timer that its step left behind; a second one that does is the step's doing."""

_CLOSED_WORDS = "the tree was closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The state after a step that ended well."""

    parent: SnapshotId | None
    task: Task
    digest: bytes
    stdout: str
    value: str | None
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """Where a step's process comes from."""

    node: NodeProcess
    state: SnapshotId | None
    replay: tuple[SnapshotId, ...]
    """To be run in the fork before the step."""
    is_guest: bool
    """`node` is too big to stay: to be ended once it is forked."""


class Workshop(Protocol):
    """What a tree needs of its sandbox."""

    limits: Limits
    slots: Slots
    snapshots: Snapshots
    counters: Counters

    async def family(self, tree: "Tree") -> Family:
        """Fresh processes for a tree."""
        ...

    def release(self, family: Family, end: FamilyEnd) -> None:
        """Kill them."""
        ...

    def forget(self, tree: "Tree") -> None:
        """The tree is closed."""
        ...


class _Lost(Exception):
    """The state before a step could not be rebuilt; says why."""


class Tree:
    """A session on the sandbox; also an async context manager that closes it."""

    def __init__(self, workshop: Workshop, *, name: str, seed: int, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self._workshop = workshop
        self._snapshots = workshop.snapshots
        self._root_digest = hashlib.sha256(str(seed).encode()).digest()
        self._states: dict[SnapshotId, _State] = {}
        self._numbers = itertools.count(1)
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
        SandboxUnavailable when no confined process can be had.
        """
        if self._is_closed:
            raise SandboxMisuse(f"tree {self.name} is closed")
        if parent is not None and parent not in self._states:
            raise SandboxMisuse(f"tree {self.name} has no snapshot {parent}; snapshots belong to one tree")
        encoded = code.encode("utf-8", "surrogatepass")
        if len(encoded) > self.limits.code_bytes:
            error = f"the code has {len(encoded)} bytes, more than {self.limits.code_bytes}"
            return self._counted(StepResult(outcome=Outcome.VIOLATION, error=error))
        digest = hashlib.sha256((self._states[parent].digest if parent else self._root_digest) + encoded).digest()
        task = Task(seed=int.from_bytes(digest[:8], "little"), code=code)
        queued_s = time.monotonic()
        with self._place() as place:
            if not await place:
                return self._counted(StepResult(outcome=Outcome.LOST, error=_CLOSED_WORDS))
            self._workshop.counters.count_wait(time.monotonic() - queued_s)
            return self._counted(await self._execute(parent, task, digest))

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, forget every state. Running calls end as LOST."""
        self._is_closed = True
        for place in self._places:
            if not place.done():
                place.set_result(False)
        family = self._family
        self.hibernate(FamilyEnd.CLOSED)
        await self._is_idle.wait()
        self.hibernate(FamilyEnd.CLOSED)
        if family is not None:
            await family.gone()
        self._states.clear()
        self._workshop.forget(self)

    def hibernate(self, end: FamilyEnd) -> None:
        """Give up every process; states are rebuilt when they are needed."""
        if self._family is not None:
            self._snapshots.forget_family(self._family)
            self._workshop.release(self._family, end)
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

    @contextmanager
    def _place(self) -> Generator[asyncio.Future[bool]]:
        place = self._workshop.slots.queue()
        self._places.add(place)
        self._is_idle.clear()
        try:
            yield place
        finally:
            self._workshop.slots.leave(place)
            self._places.discard(place)
            if not self._places:
                self._is_idle.set()

    def _counted(self, result: StepResult) -> StepResult:
        self._workshop.counters.steps[result.outcome] += 1
        return result

    async def _execute(self, parent: SnapshotId | None, task: Task, digest: bytes) -> StepResult:
        """Run a step that has its slot, again where its processes were lost through no fault of its own."""
        for _ in range(_ATTEMPTS):
            if self._is_closed:
                return StepResult(outcome=Outcome.LOST, error=_CLOSED_WORDS)
            try:
                return await self._run_once(await self._living_family(), parent, task, digest)
            except OSError as error:
                raise SandboxUnavailable(f"the server cannot make processes or talk to them: {error}") from error
            except ForkFailed:
                continue
            except _Lost as reason:
                _log.warning("a replayed step ended differently: %s", reason, extra={"tree": self.name})
                error = f"the state before the step could not be rebuilt: {reason}"
                return StepResult(outcome=Outcome.LOST, error=error)
            except FamilyEnded:
                continue
        return StepResult(outcome=Outcome.LOST, error=f"its process could not be forked in {_ATTEMPTS} attempts")

    async def _run_once(self, family: Family, parent: SnapshotId | None, task: Task, digest: bytes) -> StepResult:
        start = await self._start(family, parent)
        try:
            node = await self._fork(family, start.node, start.state)
        finally:
            if start.is_guest:
                family.discard(start.node)
        is_kept = False
        try:
            for key in start.replay:
                await self._replay(family, node, key)
                node.resume()
            result = await self._run_step(family, node, task)
            if result.outcome is Outcome.VIOLATION:
                self._workshop.counters.violations += 1
            if result.outcome is not Outcome.OK:
                return result
            key = SnapshotId(f"{self.name}.{next(self._numbers)}")
            self._states[key] = _State(
                parent=parent,
                task=task,
                digest=digest,
                stdout=result.stdout,
                value=result.value,
                cpu_s=result.cpu_seconds,
            )
            is_kept = self._keep(family, node, key)
            return replace(result, snapshot=key)
        finally:
            self._snapshots.look_away(node.pid)
            if not is_kept:
                family.discard(node)

    async def _run_step(self, family: Family, node: NodeProcess, task: Task) -> StepResult:
        try:
            ending = await family.run(node, task, on_look=lambda usage: self._snapshots.look(node.pid, usage))
        except FamilyEnded:
            if family.end is not FamilyEnd.ZYGOTE:
                raise
            # Not run again: it may be what took the zygote with it, by taking the machine's memory.
            return StepResult(outcome=Outcome.LOST, error="the sandbox's zygote ended")
        return judge(ending, self.limits)

    async def _start(self, family: Family, parent: SnapshotId | None) -> _Start:
        """Where to fork, and what to replay in the fork; a long way is rebuilt first."""
        base, missing = self._nearest(family, parent)
        if parent is not None:
            self._workshop.counters.hits += not missing
            self._workshop.counters.misses += bool(missing)
        while sum(self._states[key].cpu_s for key in missing) >= _CHEAP_S:
            async with self._rebuilding:
                base, missing = self._nearest(family, parent)
                guest = await self._rebuild(family, base, missing) if missing else None
            if guest is not None:
                return _Start(node=guest, state=parent, replay=(), is_guest=True)
            base, missing = self._nearest(family, parent)
        node = family.root if base is None else self._snapshots.get(base, family)
        assert node is not None  # found without awaiting anything
        return _Start(node=node, state=base, replay=tuple(missing), is_guest=False)

    async def _rebuild(self, family: Family, base: SnapshotId | None, missing: list[SnapshotId]) -> NodeProcess | None:
        """Bring a state on the way back to life. One too big to keep is passed by; the wanted one is then returned."""
        parent = family.root if base is None else self._snapshots.get(base, family)
        assert parent is not None  # as above
        node = await self._fork(family, parent, base)
        is_done = False
        spent_s = 0.0
        try:
            for key in missing:
                await self._replay(family, node, key)
                spent_s += self._states[key].cpu_s
                is_last = key == missing[-1]
                if spent_s < _SEGMENT_S and not is_last:
                    node.resume()
                    continue
                is_kept = self._keep(family, node, key)
                is_done = is_kept or is_last
                if is_done:
                    return None if is_kept else node
                guest, node = node, await self._fork(family, node, None)
                family.discard(guest)
                spent_s = 0.0
            return None
        finally:
            self._snapshots.look_away(node.pid)
            if not is_done:
                family.discard(node)

    async def _replay(self, family: Family, node: NodeProcess, key: SnapshotId) -> None:
        """Run an earlier step again; it must end as it did."""
        self._workshop.counters.replayed_steps += 1
        state = self._states[key]
        ending = await family.run(node, state.task, on_look=lambda usage: self._snapshots.look(node.pid, usage))
        result = judge(ending, self.limits)
        if (result.outcome, result.stdout, result.value) != (Outcome.OK, state.stdout, state.value):
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
        """Whether it is kept; if not, it is the caller's to end."""
        if family.end is not None or family is not self._family:
            return False
        parent, steps = self._nearest(family, self._states[key].parent)
        cost_s = sum(self._states[step].cpu_s for step in (*steps, key))
        return self._snapshots.keep(key, Live(node, family), tree=self.name, parent=parent, cost_s=cost_s)

    def _nearest(self, family: Family, state: SnapshotId | None) -> tuple[SnapshotId | None, list[SnapshotId]]:
        """The nearest live state on the path to `state`, itself included, and the steps from there."""
        missing: list[SnapshotId] = []
        while state is not None and self._snapshots.get(state, family) is None:
            missing.append(state)
            state = self._states[state].parent
        return state, missing[::-1]

    async def _living_family(self) -> Family:
        async with self._starting:
            if self._family is not None and self._family.end is not None:
                if self._family.end is FamilyEnd.RESET:
                    self._workshop.counters.resets += 1
                self.hibernate(FamilyEnd.RESET)
            if self._family is None:
                self._family = await self._workshop.family(self)
            return self._family
