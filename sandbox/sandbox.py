"""Sandbox: runs the steps of many trees, a bounded number at a time, each in its own confined process.

Owns the zygote and replaces one that died; the steps it ran are lost, the trees are not, as their states are code.
Closing leaves no process behind.
"""

import asyncio
import itertools
import socket
import time
from types import TracebackType
from typing import Self

from sandbox.ending import Ending, StepResult, Stop, judge
from sandbox.errors import SandboxMisuse
from sandbox.host import ZygoteProcess
from sandbox.limits import Limits
from sandbox.outcomes import Outcome
from sandbox.tree import Job, Tree, cpu_limit_s
from sandbox.wire import STARTED, Exit, Fork, encode_program, max_report_bytes

_START_GRACE_S = 10.0
"""For forking and rebuilding a cheap path: milliseconds, but the machine may be busy."""

_REPLAY_SLACK = 3.0
"""How much slower than the first time a replay may be."""


class Sandbox:
    """An async context manager; belongs to one event loop."""

    def __init__(self, *, limits: Limits | None = None, workers: int = 2) -> None:
        """`workers` is the number of steps that run at once; others wait their turn."""
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.limits = limits or Limits()
        self._slots = asyncio.Semaphore(workers)
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None
        self._trees: set[Tree] = set()
        self._tree_numbers = itertools.count(1)
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Start the zygote. Raises SandboxUnavailable."""
        self._is_open = True
        await self._living_zygote()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every step, tree and process."""
        self._is_open = False
        try:
            for tree in list(self._trees):
                await tree.close()
        finally:
            if self._zygote is not None:
                await self._zygote.close()

    def tree(self, *, seed: int = 0) -> Tree:
        """A new session; the same seed and the same path of code give the same random numbers."""
        if not self._is_open:
            raise SandboxMisuse("the sandbox is not open: use `async with`")
        tree = Tree(self, name=f"t{next(self._tree_numbers)}", seed=seed, limits=self.limits)
        self._trees.add(tree)
        return tree

    @property
    def findings(self) -> dict[str, str | None]:
        """What protections were found to hold (None) or not (the reason), by a probe at the start."""
        return dict(self._zygote.findings) if self._zygote is not None else {}

    @property
    def zygote_pid(self) -> int | None:
        """Parent of every step's process, for supervision."""
        return self._zygote.pid if self._zygote is not None and self._zygote.is_alive else None

    def forget(self, tree: Tree) -> None:
        """Called by a tree that closes."""
        self._trees.discard(tree)

    async def execute(self, job: Job) -> StepResult:
        """Called by trees: run a job's last step once; afterwards its process is gone."""
        async with self._slots:
            zygote = await self._living_zygote() if job.stop_reason is None else None
            if zygote is None or job.stop_reason is not None:
                return StepResult(outcome=Outcome.LOST, error="the tree was closed")
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    ours.setblocking(False)
                    cpu_s = cpu_limit_s(job, self.limits)
                    number, gone = zygote.fork(self._fork_command(cpu_s), theirs)
                job.kill = lambda: zygote.kill(number)
                started = time.monotonic()
                conversation = _Conversation(ours, max_bytes=max_report_bytes(self.limits.output_bytes))
                try:
                    await self._converse(job, conversation, gone)
                finally:
                    job.kill = None
                    await zygote.end(number)
                job.wall_s = time.monotonic() - started
            ending = Ending(
                stop=job.stop_reason,
                is_started=conversation.is_started,
                message=bytes(conversation.heard),
                notice=gone.result(),
                cpu_limit_s=cpu_s,
            )
            return judge(ending, self.limits)

    async def _converse(self, job: Job, conversation: "_Conversation", gone: asyncio.Future[Exit | None]) -> None:
        """Give the process its program and hear it out, within the deadlines."""
        try:
            async with asyncio.timeout(_START_GRACE_S + _REPLAY_SLACK * job.replay_wall_s):
                await conversation.open(encode_program(job.program))
        except TimeoutError:
            job.stop(Stop.START_DEADLINE)
            return
        try:
            async with asyncio.timeout(self.limits.wall_s):
                await conversation.hear_out()
                await asyncio.wait([gone])
        except TimeoutError:
            job.stop(Stop.WALL_DEADLINE)

    def _fork_command(self, cpu_s: int) -> Fork:
        limits = self.limits
        return Fork(
            job=0,
            cpu_s=cpu_s,
            memory_mb=limits.memory_mb,
            stack_mb=limits.stack_mb,
            open_files=limits.open_files,
            output_bytes=limits.output_bytes,
        )

    async def _living_zygote(self) -> ZygoteProcess:
        # The lock keeps two steps that find the zygote dead from starting two new ones.
        async with self._starting:
            if not self._is_open:
                raise SandboxMisuse("the sandbox is closed")
            if self._zygote is None or not self._zygote.is_alive:
                self._zygote = await ZygoteProcess.start()
            return self._zygote


class _Conversation:
    """The server's side of a step's socket."""

    def __init__(self, ours: socket.socket, *, max_bytes: int) -> None:
        self._ours = ours
        self._max_bytes = max_bytes
        self.is_started = False
        self.heard = bytearray()

    async def open(self, program: bytes) -> None:
        """Send the program and wait for the first sign of its last step, or the end."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, program)
        except OSError:
            return  # gone already: how is the kernel's to say
        first = await self._receive(1)
        self.is_started = first == STARTED

    async def hear_out(self) -> None:
        """Listen to the end, or until more is said than a report can hold."""
        while len(self.heard) <= self._max_bytes and (chunk := await self._receive(65536)):
            self.heard += chunk

    async def _receive(self, size: int) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._ours, size)
        except OSError:
            return b""
