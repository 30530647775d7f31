"""Family: the server's end of one tree's processes: its root, which never runs a step, and the nodes forked below it.

Commands forks and runs, and sees to it that every process of the tree is known: where one might not be, all are killed,
which costs the tree nothing but replays. Knows nothing of snapshots, records or limits on their number.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sandbox.channel import Channel, Heard
from sandbox.confinement import Mechanism
from sandbox.ending import Ending, Stop
from sandbox.errors import SandboxUnavailable
from sandbox.gate import Gate, LimitGate, NoGate, NotificationGate
from sandbox.limits import Limits
from sandbox.process import NodeProcess, Usage
from sandbox.wire import FAILED, FORK, HELLO, LISTENER, encode_run

_FORK_S = 5.0
"""A fork takes milliseconds; the machine may be busy, and hooks that steps left behind may run."""

_START_S = 20.0
"""A tree's first process takes some 10 ms, behind those asked for before it."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step for one node."""

    seed: int
    code: str


class Family:
    """Belongs to one event loop."""

    def __init__(self, root: NodeProcess, gate: Gate, *, limits: Limits, on_violation: Callable[[], None]) -> None:
        self.root = root
        self.end: FamilyEnd | None = None
        self._gate = gate
        self._limits = limits
        self._on_violation = on_violation
        self._processes: dict[int, NodeProcess] = {root.pid: root}
        self._violators: set[int] = set()
        self._gone = asyncio.Event()

    @classmethod
    async def meet(
        cls, channel: Channel, *, limits: Limits, switched_off: frozenset[Mechanism], on_violation: Callable[[], None]
    ) -> "Family":
        """Wait for the first words of a root that the zygote is making. Raises SandboxUnavailable."""
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
            if heard.frame != HELLO:
                reason = heard.frame.removeprefix(FAILED).decode(errors="replace") or "it ended"
                raise SandboxUnavailable(f"a tree's first process could not be confined: {reason}")
            root = NodeProcess(heard.pid, channel)
        except BaseException as error:
            gate.close()
            channel.close()
            if isinstance(error, TimeoutError | ProcessLookupError):
                raise SandboxUnavailable("a tree's first process did not get ready") from None
            raise
        family = cls(root, gate, limits=limits, on_violation=on_violation)
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
                    await asyncio.wait([hello], timeout=_FORK_S)
                except asyncio.CancelledError:
                    # Halfway through there may or may not be a child: only its hello tells.
                    await asyncio.wait([hello], timeout=_FORK_S)
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
        # A node can have forged its report and go on computing: stopped, it wakes only to be forked.
        node.stop()
        wall_s = clock.wall_s()
        # A single thread: CPU time passes at most as fast as wall time.
        cpu_s = clock.cpu_s() if stop or wall_s > self._limits.cpu_s else 0.0
        exit_code: int | None = None
        if heard is None:
            await self._end(node)
        elif not heard.frame:
            exit_code = await self._bury(node)
            stop = Stop.VIOLATION if node.pid in self._violators else None
            self._violators.discard(node.pid)
            self._check()
        frame = heard.frame if heard is not None else b""
        return Ending(
            stop=stop,
            frame=_NONSENSE if heard is not None and frame and heard.pid != node.pid else frame,
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

    async def _end(self, node: NodeProcess) -> None:
        self._drop(node)
        await node.end()

    async def _bury(self, node: NodeProcess) -> int | None:
        """A node has closed its socket: with its end, or the end will follow."""
        self._drop(node)
        return await node.outlive()

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
