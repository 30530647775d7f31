"""Family: the server's end of one tree's processes: its root, which never runs a step, and the nodes forked below it.

It commands forks and runs, and knows every process of the tree. If one might be unknown, all are killed; this costs the
tree only replays. It does not know snapshots, records or limits on their number.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sandbox.confinement import Mechanism
from sandbox.errors import SandboxUnavailable, ZygoteEnded
from sandbox.gate import Gate, LimitGate, NotificationGate
from sandbox.node_process import Channel, Message, NodeProcess, Usage, is_dying
from sandbox.step import Limits, StepExit, StopReason
from sandbox.wire import FAILED, FORK, HELLO, LISTENER, encode_run

_FORK_S = 5.0
"""A fork takes milliseconds; the machine may be busy, and hooks that steps left behind may run."""

_FORK_CPU_S = 0.5
"""CPU time of the parent: ten times its need with a gigabyte of memory. It may go on computing after a
forged report."""

_FORK_POLL_S = 0.1
"""How often a fork that takes long is checked."""

_START_S = 10.0
"""A tree's first process takes some 10 ms, behind those asked for before it; a zygote that takes longer is replaced."""

_MALFORMED = b"?"
"""Stands for a frame that another process sent."""

_RUN_POLL_S = 0.05
"""How often a running step's CPU time and memory are checked; most steps end before the first time."""

_SHORTEST_POLL_S = 0.002


class FamilyEnd(StrEnum):
    """Why a family has no processes any more."""

    CLOSED = "closed"
    """Its tree no longer needs it."""
    RESET = "reset"
    """There may be an unknown process, or its root is gone: its tree gets another family."""
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
        is_zygote_dying: Callable[[], bool],
    ) -> None:
        """`on_violation` is called for each foreign frame; `is_zygote_dying` may say so before the server
        has seen the end of the zygote's socket.
        """
        self.root = root
        self.end: FamilyEnd | None = None
        self.gate = gate
        self._limits = limits
        self._on_violation = on_violation
        self._is_zygote_dying = is_zygote_dying
        self._processes: dict[int, NodeProcess] = {root.pid: root}
        self._violators: set[int] = set()
        if isinstance(gate, NotificationGate):
            gate.on_flood = self._kill_violator

    @classmethod
    async def connect(
        cls,
        channel: Channel,
        *,
        limits: Limits,
        switched_off: frozenset[Mechanism],
        on_violation: Callable[[], None],
        is_zygote_dying: Callable[[], bool],
    ) -> "Family":
        """Wait for the root that the zygote is making. Raises RootGone and SandboxUnavailable."""
        gate = Gate() if Mechanism.SECCOMP in switched_off else LimitGate()
        try:
            async with asyncio.timeout(_START_S):
                message = await channel.expect(may_have_descriptor=True)
                if message.frame == LISTENER and message.descriptor is not None:
                    gate = NotificationGate(message.descriptor)
                    message = await channel.expect()
            root = _root_of(message, channel)
        except BaseException as error:
            gate.close()
            channel.close()
            if isinstance(error, TimeoutError):
                raise ZygoteEnded(f"a tree's first process did not get ready within {_START_S:.0f} s") from None
            raise
        return cls(root, gate, limits=limits, on_violation=on_violation, is_zygote_dying=is_zygote_dying)

    async def fork(self, parent: NodeProcess) -> NodeProcess:
        """A child of `parent`, running, in its state. Raises ForkFailed and FamilyEnded. Cancelling leaves no child."""
        async with parent.forking:
            self._check()
            channel, theirs = Channel.pair()
            self.gate.open(parent.pid)
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
                    # Halfway through there may or may not be a child: only its hello shows that there is one.
                    await self._await_hello(hello, parent)
                    raise
                is_wanted = True
            finally:
                child = self._child_of(hello, channel)
                self._finish_fork(parent, child, is_wanted=is_wanted)
                if child is None:
                    channel.close()
            if child is None:
                self._check()
                raise ForkFailed
            return child

    async def _await_hello(self, hello: asyncio.Future[Message], parent: NodeProcess) -> None:
        """Wait until a child sends a frame and no other is on its way, or until there can be no single child.

        That the parent is gone need not close the child's socket: it may wait in the parent's, of which a process that
        was stopped too early has a copy.
        """
        deadline, cpu_before_s = time.monotonic() + _FORK_S, parent.cpu_seconds()
        while not hello.done() and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait([hello], timeout=min(_FORK_POLL_S, left_s))
            if hello.done():
                break
            is_busy_otherwise = parent.cpu_seconds() - cpu_before_s > _FORK_CPU_S
            if is_busy_otherwise or is_dying(parent.pid) or self.gate.is_overrun(parent.pid, self._processes):
                return
        if hello.done() and (message := hello.result()).frame == HELLO:
            parent.stop()
            await self.gate.settle(parent.pid, message.pid)

    def _child_of(self, hello: asyncio.Future[Message], channel: Channel) -> NodeProcess | None:
        """The child, if it is one: no known process, and nothing but a hello."""
        if not hello.done():
            return None
        message = hello.result()
        if message.frame != HELLO or message.pid in self._processes:
            if message.frame:
                self._on_violation()
            return None
        with contextlib.suppress(ProcessLookupError):
            return NodeProcess(message.pid, channel)
        return None

    def _finish_fork(self, parent: NodeProcess, child: NodeProcess | None, *, is_wanted: bool) -> None:
        """After a fork, or its failure: the parent sleeps or dies, and no unknown process is left."""
        may_be_more = self.gate.shut(parent.pid, child.pid if child else None, self._processes)
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

    async def run(self, node: NodeProcess, task: Task, *, on_usage: Callable[[Usage], None]) -> StepExit:
        """Have a running node run a step, and stop it. `on_usage` gets its memory while it runs.

        Raises FamilyEnded. Cancelling kills the node.
        """
        self._check()
        clock = _Clock(node, self._limits)
        node.is_running = True
        try:
            message, stop = await self._await_answer(node, task, clock, on_usage)
        except BaseException:
            await self._end(node)
            raise
        finally:
            node.is_running = False
        wall_s = clock.wall_s()
        has_answer = message is not None and message.pid != 0
        # A single thread: CPU time passes at most as fast as wall time.
        cpu_s = 0.0 if has_answer and wall_s <= self._limits.cpu_s else clock.cpu_s()
        exit_code: int | None = None
        frame = b""
        if message is None:
            await self._end(node)
        elif message.pid == 0:
            exit_code = await self._exit_code_of(node)
            stop = StopReason.VIOLATION if node.pid in self._violators else None
            self._violators.discard(node.pid)
            self._check()
        else:
            # A node can have forged its report and go on computing: stopped, it wakes only to be forked.
            node.stop()
            frame = message.frame if message.pid == node.pid and message.frame else _MALFORMED
        return StepExit(stop=stop, frame=frame, exit_code=exit_code, cpu_seconds=cpu_s, wall_seconds=wall_s)

    async def _await_answer(
        self, node: NodeProcess, task: Task, clock: "_Clock", on_usage: Callable[[Usage], None]
    ) -> tuple[Message | None, StopReason | None]:
        """The node's answer, or why it gets no time for one."""
        answer, gone = node.channel.expect(), node.gone()
        with contextlib.suppress(OSError):  # it is gone: then it answers with its end
            node.channel.send(encode_run(task.seed, task.code))
        while not answer.done() and not gone.done():
            if (stop := clock.passed_deadline()) is not None:
                return None, stop
            await asyncio.wait((answer, gone), timeout=clock.pause_s(), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                on_usage(node.usage())
        return node.channel.last(answer), None

    async def _exit_code_of(self, node: NodeProcess) -> int | None:
        """Exit code of a node whose socket is closed; None if its step closed it, and the node is killed for that.

        Where it was killed from outside, others may have been killed with it, and the server may not know yet.
        """
        is_ending = is_dying(node.pid)
        code = await self._end(node)
        if not is_ending:
            return None
        if code in (None, -signal.SIGKILL) and is_dying(self.root.pid):
            self.shut_down(FamilyEnd.ZYGOTE if self._is_zygote_dying() else FamilyEnd.RESET)
        return code

    def discard(self, node: NodeProcess) -> None:
        """Kill one node; those forked from it live on."""
        self._forget(node)
        node.close()

    async def _end(self, node: NodeProcess) -> int | None:
        self._forget(node)
        return await node.end()

    def _forget(self, node: NodeProcess) -> None:
        if self._processes.pop(node.pid, None) is not None:
            self.gate.forget(node.pid)

    def _kill_violator(self, pid: int) -> None:
        """Kill a violator; the task that waits for its answer gets the reason."""
        self._violators.add(pid)
        if node := self._processes.get(pid):
            node.kill()

    def shut_down(self, end: FamilyEnd) -> None:
        """Kill every process; tasks that wait for one of them learn that it is gone. The first `end` stays."""
        if self.end is None:
            self.end = end
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.root.pid, signal.SIGKILL)  # no process of the tree can leave its root's group
            for node in self._processes.values():
                if node is not self.root and not node.is_running:
                    node.close()
            self.root.kill()
            self.root.gone().add_done_callback(lambda _: self.root.close())
            self.gate.close()

    async def gone(self) -> None:
        """After `shut_down`: until its root has ended, in a namespace of its own the last of all."""
        await asyncio.wait([self.root.gone()], timeout=_START_S)

    def _check(self) -> None:
        if self.end is not None:
            raise FamilyEnded


def _root_of(message: Message, channel: Channel) -> NodeProcess:
    if message.frame and message.frame != HELLO:
        reason = message.frame.removeprefix(FAILED).decode(errors="replace")
        raise SandboxUnavailable(f"a tree's first process could not be confined: {reason}")
    # The frames of a process stay in its socket after its end.
    if not message.frame or is_dying(message.pid):
        raise RootGone
    try:
        return NodeProcess(message.pid, channel)
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

    def passed_deadline(self) -> StopReason | None:
        if self.wall_s() > self._limits.wall_s:
            return StopReason.WALL_DEADLINE
        return StopReason.CPU_DEADLINE if self.cpu_s() >= self._limits.cpu_s else None

    def pause_s(self) -> float:
        """Until the next check: at the latest when a limit could be reached."""
        left_s = min(self._limits.wall_s - self.wall_s(), self._limits.cpu_s - self.cpu_s())
        return min(_RUN_POLL_S, max(left_s, _SHORTEST_POLL_S))
