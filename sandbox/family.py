"""Family: the server's end of one tree's processes: its root, which never runs a step, and the nodes forked below it.

Commands forks and runs, and sees to it that every process of the tree is known: where one might not be, all are killed,
which costs the tree nothing but replays. Knows nothing of snapshots, records or limits on their number.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sandbox.channel import Channel, Heard
from sandbox.confinement import Mechanism
from sandbox.ending import Ending, Stop
from sandbox.errors import SandboxUnavailable, ZygoteEnded
from sandbox.gate import Gate, LimitGate, NoGate, NotificationGate
from sandbox.limits import Limits
from sandbox.process import NodeProcess, Usage, is_dying
from sandbox.wire import FAILED, FORK, HELLO, LISTENER, encode_run

_FORK_S = 5.0
"""A fork takes milliseconds; the machine may be busy, and hooks that steps left behind may run."""

_FORK_CPU_S = 0.5
"""Of the parent: ten times what it takes with a gigabyte of memory. One that forged its report may go on computing."""

_GLANCE_S = 0.1
"""How often a fork that takes long is looked at."""

_START_S = 10.0
"""A tree's first process takes some 10 ms, behind those asked for before it; a zygote that takes longer is replaced."""

_NONSENSE = b"?"
"""What a frame is worth that somebody else sent."""

_SHORTEST_LOOK_S = 0.002

_LOOK_S = 0.05
"""How often a running step's CPU time and memory are looked at; most steps end before the first time."""


class FamilyEnd(StrEnum):
    """Why a family has no processes any more."""

    CLOSED = "closed"
    """Its tree is done with it."""
    RESET = "reset"
    """A process may have been made that nobody knows, or its root is gone: its tree gets another family."""
    ZYGOTE = "zygote"
    """The zygote ended, and took everything with it."""


class ForkFailed(Exception):
    """The node is gone, or would not fork; it has been killed."""


class FamilyEnded(Exception):
    """See the family's `end`."""


class RootGone(Exception):
    """A tree's first process was gone before it was of any use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step for one node."""

    seed: int
    code: str


class Family:
    """Belongs to one event loop."""

    def __init__(
        self,
        root: NodeProcess,
        gate: Gate,
        *,
        limits: Limits,
        on_violation: Callable[[], None],
        is_doomed: Callable[[], bool],
    ) -> None:
        """`is_doomed`: whether the zygote is dying, though nobody has been told yet."""
        self.root = root
        self.end: FamilyEnd | None = None
        self._gate = gate
        self._limits = limits
        self._on_violation = on_violation
        self._is_doomed = is_doomed
        self._processes: dict[int, NodeProcess] = {root.pid: root}
        self._violators: set[int] = set()
        self._gone = asyncio.Event()

    @classmethod
    async def meet(
        cls,
        channel: Channel,
        *,
        limits: Limits,
        switched_off: frozenset[Mechanism],
        on_violation: Callable[[], None],
        is_doomed: Callable[[], bool],
    ) -> "Family":
        """Wait for the first words of a root that the zygote is making. Raises RootGone and SandboxUnavailable."""
        family: Family | None = None
        gate: Gate = NoGate() if Mechanism.SECCOMP in switched_off else LimitGate()

        def on_flood(pid: int) -> None:
            if family is not None:
                family.kill_for_violation(pid)

        listener: int | None = None
        try:
            async with asyncio.timeout(_START_S):
                heard, listener = await channel.expect_listener()
                if heard.frame == LISTENER and listener is not None:
                    gate = NotificationGate(listener, on_flood=on_flood)
                    heard = await channel.expect()
            root = _root_of(heard, channel)
        except BaseException as error:
            gate.close()
            channel.close()
            if isinstance(error, TimeoutError):
                raise ZygoteEnded(f"a tree's first process did not get ready within {_START_S:.0f} s") from None
            raise
        family = cls(root, gate, limits=limits, on_violation=on_violation, is_doomed=is_doomed)
        return family

    async def fork(self, parent: NodeProcess) -> NodeProcess:
        """A child of `parent`, running, in its state. Raises ForkFailed and FamilyEnded. Cancelling leaves no child."""
        async with parent.forking:
            self._check()
            channel, theirs = Channel.pair()
            self._gate.open(parent.pid)
            hello = channel.expect()
            child: NodeProcess | None = None
            is_wanted = False
            try:
                with theirs, contextlib.suppress(OSError):
                    parent.resume()
                    parent.channel.send(FORK, theirs.fileno())
                try:
                    await self._await_hello(hello, parent)
                except asyncio.CancelledError:
                    # Halfway through there may or may not be a child: only its hello tells.
                    await self._await_hello(hello, parent)
                    raise
                is_wanted = True
            finally:
                child = self._greet(hello, channel)
                self._settle(parent, child, is_wanted=is_wanted)
                if child is None:
                    channel.close()
            if child is None:
                self._check()
                raise ForkFailed
            return child

    async def _await_hello(self, hello: asyncio.Future[Heard], parent: NodeProcess) -> None:
        """Until a child speaks and no other is on its way, or there is no more hope of one that is alone.

        That the parent is gone need not close the child's socket: it may wait in the parent's, of which a process that
        was stopped too early has a copy.
        """
        deadline, cpu_before_s = time.monotonic() + _FORK_S, parent.cpu_seconds()
        while not hello.done() and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait([hello], timeout=min(_GLANCE_S, left_s))
            if hello.done():
                break
            is_busy_otherwise = parent.cpu_seconds() - cpu_before_s > _FORK_CPU_S
            if is_busy_otherwise or is_dying(parent.pid) or self._gate.is_overrun(parent.pid, self._processes):
                return
        if hello.done() and (heard := hello.result()).frame == HELLO:
            parent.stop()
            await self._gate.narrow(parent.pid, heard.pid)

    async def run(self, node: NodeProcess, task: Task, *, on_look: Callable[[Usage], None]) -> Ending:
        """Have a running node run a step, and stop it. Raises FamilyEnded. Cancelling kills the node."""
        self._check()
        clock = _Clock(node, self._limits)
        node.is_running = True
        try:
            heard, stop = await self._hear_out(node, task, clock, on_look)
        except BaseException:
            await self._end(node)
            raise
        finally:
            node.is_running = False
        wall_s, cpu_s = clock.wall_s(), 0.0
        exit_code: int | None = None
        frame = b""
        if heard is None:
            cpu_s = clock.cpu_s()
            await self._end(node)
        elif heard.pid == 0:
            cpu_s = clock.cpu_s()
            exit_code = await self._bury(node)
            stop = Stop.VIOLATION if node.pid in self._violators else None
            self._violators.discard(node.pid)
            self._check()
        else:
            # A node can have forged its report and go on computing: stopped, it wakes only to be forked.
            node.stop()
            frame = heard.frame if heard.pid == node.pid and heard.frame else _NONSENSE
            # A single thread: CPU time passes at most as fast as wall time.
            cpu_s = clock.cpu_s() if wall_s > self._limits.cpu_s else 0.0
        return Ending(
            stop=stop,
            frame=frame,
            exit_code=exit_code,
            cpu_seconds=cpu_s,
            wall_seconds=wall_s,
        )

    async def _hear_out(
        self, node: NodeProcess, task: Task, clock: "_Clock", on_look: Callable[[Usage], None]
    ) -> tuple[Heard | None, Stop | None]:
        """The node's answer, or why it gets no time for one."""
        answer = node.channel.expect()
        with contextlib.suppress(OSError):  # it is gone: then it answers with its end
            node.channel.send(encode_run(task.seed, task.code))
        with node.watched() as gone:
            while not answer.done() and not gone.done():
                stop = clock.deadline()
                if stop is not None:
                    return None, stop
                waited = (answer, gone)
                await asyncio.wait(waited, timeout=clock.pause_s(), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    on_look(node.usage())
        return node.channel.give_up(answer), None

    def discard(self, node: NodeProcess) -> None:
        """Kill one node; those forked from it live on."""
        self._drop(node)
        node.kill()

    async def _end(self, node: NodeProcess) -> int | None:
        self._drop(node)
        return await node.end()

    async def _bury(self, node: NodeProcess) -> int | None:
        """The exit code of a node whose socket is closed; None where its step did that, and it is ended for it.

        One that was killed from outside may not have been alone, and the news of the others may be slower.
        """
        is_ending = is_dying(node.pid)
        code = await self._end(node)
        if not is_ending:
            return None
        if code in (None, -signal.SIGKILL) and is_dying(self.root.pid):
            self.shut_down(FamilyEnd.ZYGOTE if self._is_doomed() else FamilyEnd.RESET)
        return code

    def _drop(self, node: NodeProcess) -> None:
        if self._processes.pop(node.pid, None) is not None:
            self._gate.forget(node.pid)

    def kill_for_violation(self, pid: int) -> None:
        """Whoever waits for it learns why."""
        self._violators.add(pid)
        if node := self._processes.get(pid):
            node.condemn()

    def shut_down(self, end: FamilyEnd) -> None:
        """Kill every process; those who wait for one of them learn that it is gone."""
        if self.end is None:
            self.end = end
            _kill_group(self.root.pid)
            for node in list(self._processes.values()):
                if node is not self.root and not node.is_running:
                    node.kill()
            self.root.condemn()
            self.root.on_gone(self._gone.set)
            self._gate.close()

    async def gone(self) -> None:
        """After `shut_down`: until its root has ended, in a namespace of its own the last of all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                await self._gone.wait()

    @property
    def gate_words(self) -> str:
        return self._gate.words

    @property
    def processes(self) -> int:
        return len(self._processes)

    def _check(self) -> None:
        if self.end is not None:
            raise FamilyEnded

    def _greet(self, hello: asyncio.Future[Heard], channel: Channel) -> NodeProcess | None:
        """The child, if it is one: nobody we know, and nothing but a hello."""
        if not hello.done():
            return None
        heard = hello.result()
        if heard.frame != HELLO or heard.pid in self._processes:
            if heard.frame:
                self._on_violation()
            return None
        with contextlib.suppress(ProcessLookupError):
            return NodeProcess(heard.pid, channel)
        return None

    def _settle(self, parent: NodeProcess, child: NodeProcess | None, *, is_wanted: bool) -> None:
        """After a fork, or its failure: the parent sleeps or dies, and nobody unknown is left."""
        may_be_more = self._gate.shut(parent.pid, child.pid if child else None, self._processes)
        if child is None:
            if parent is not self.root:
                self.discard(parent)
        else:
            parent.stop()
            self._processes[child.pid] = child
        if may_be_more or (parent is self.root and child is None):
            self.shut_down(FamilyEnd.RESET)
        elif child is not None and not is_wanted:
            self.discard(child)


def _root_of(heard: Heard, channel: Channel) -> NodeProcess:
    if heard.frame and heard.frame != HELLO:
        reason = heard.frame.removeprefix(FAILED).decode(errors="replace")
        raise SandboxUnavailable(f"a tree's first process could not be confined: {reason}")
    # What a process said stays in its socket when it is gone.
    if not heard.frame or is_dying(heard.pid):
        raise RootGone
    try:
        return NodeProcess(heard.pid, channel)
    except ProcessLookupError:
        raise RootGone from None


class _Clock:
    """The time of one step."""

    def __init__(self, node: NodeProcess, limits: Limits) -> None:
        self._node = node
        self._limits = limits
        self._started = time.monotonic()
        self._cpu_before_s = node.cpu_seconds()

    def wall_s(self) -> float:
        return time.monotonic() - self._started

    def cpu_s(self) -> float:
        return self._node.cpu_seconds() - self._cpu_before_s

    def deadline(self) -> Stop | None:
        if self.wall_s() > self._limits.wall_s:
            return Stop.WALL_DEADLINE
        return Stop.CPU_DEADLINE if self.cpu_s() >= self._limits.cpu_s else None

    def pause_s(self) -> float:
        """Until the next look: at the latest when a limit could be reached."""
        left_s = min(self._limits.wall_s - self.wall_s(), self._limits.cpu_s - self.cpu_s())
        return min(_LOOK_S, max(left_s, _SHORTEST_LOOK_S))


def _kill_group(pid: int) -> None:
    """Every process of a tree is in its root's group; none can leave it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, 9)
