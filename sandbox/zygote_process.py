"""ZygoteProcess: the server's end of one zygote: starts it, has it make trees, notices when it is gone.

Keeps a few trees ready, so that a search need not wait for one.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

from sandbox.confinement import Mechanism, write_maps
from sandbox.errors import SandboxUnavailable, ZygoteEnded
from sandbox.family import Family, FamilyEnd, RootGone
from sandbox.mounts import find_folders
from sandbox.node_process import Channel, is_dying
from sandbox.step import Limits
from sandbox.wire import TreeOptions, encode_options

_START_S = 60.0
"""Loading sympy takes under a second, but a cold disk or a busy machine can stretch it."""

_STOP_S = 2.0
"""A zygote needs milliseconds to end; a slower one is killed."""

_ENDED_WORDS = "the sandbox's zygote ended"

_PACKAGE = str(Path(__file__).resolve().parent)

_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/nonexistent",
}
"""All that a step finds in `os.environ`: results must not depend on the server's. Threads do not survive a fork."""

# The package's `__init__` is for servers and loads asyncio: the zygote gets a bare package in its place. `-P` and `-s`
# keep the working directory and the user's packages out, `-S` the hooks of installed ones; `-I` would too, but ignores
# PYTHONHASHSEED.
_ENTRY = """
import sys, types
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv.pop(1)]
sys.modules["sandbox"] = package
from sandbox.zygote import start
start(sys.argv[1:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteReport:
    """A zygote's report of itself, and why mechanisms are off."""

    missing: tuple[str, ...]
    """Modules that are not installed."""
    landlock_version: int | None
    off: dict[Mechanism, str]
    pid: int
    """Pid of the zygote, as the server numbers it."""


class _NoNamespaces(Exception):
    """The zygote could not make namespaces, and is unusable now; says why."""


class ZygoteProcess:
    """A running zygote with its launcher; belongs to one event loop."""

    def __init__(
        self, process: Process, control: Channel, report: ZygoteReport, *, lifeline: BinaryIO, pool: int
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._control = control
        self._pool = pool
        self._ready: deque[tuple[Limits, Channel]] = deque()
        self._families: set[Family] = set()
        self.report = report
        self.is_alive = True
        control.expect().add_done_callback(lambda _: self._die())  # after its hello it says nothing until its end

    @classmethod
    async def start(cls, *, switched_off: frozenset[Mechanism], pool: int) -> "ZygoteProcess":
        """Start one and wait until it is ready, without namespaces if there are none. Raises SandboxUnavailable.

        `pool`: how many trees it keeps ready.
        """
        off = dict.fromkeys(switched_off, "switched off")
        try:
            return await cls._start(off, pool=pool)
        except _NoNamespaces as reason:
            off[Mechanism.NAMESPACES] = str(reason)
        return await cls._start(off, pool=pool)

    @classmethod
    async def _start(cls, off: dict[Mechanism, str], *, pool: int) -> "ZygoteProcess":
        with contextlib.ExitStack() as undo:
            try:
                process, control, lifeline = await _launch(off, undo)
            except (OSError, RuntimeError) as error:  # the latter where the thread that is to wait for it cannot start
                raise SandboxUnavailable(f"no zygote can be started: {error}") from error
            try:
                report = await _await_ready(control, process.pid, off)
            except BaseException:
                undo.close()
                _kill(process)
                await process.wait()
                raise
            undo.pop_all()
        return cls(process, control, report, lifeline=lifeline, pool=pool)

    @property
    def pid(self) -> int:
        """Pid of the launcher: the first process of the session that all are in."""
        return self._process.pid

    async def family(self, limits: Limits, *, on_violation: Callable[[], None]) -> Family:
        """The processes of a new tree, from the pool where there are some. Raises SandboxUnavailable."""
        try:
            family = await self._connect(limits, on_violation=on_violation)
        except SandboxUnavailable:
            self._die()  # it makes no more trees: the next caller gets another zygote
            raise
        if not self.is_alive:
            family.shut_down(FamilyEnd.ZYGOTE)
            raise ZygoteEnded(_ENDED_WORDS)
        self._families.add(family)
        return family

    async def _connect(self, limits: Limits, *, on_violation: Callable[[], None]) -> Family:
        is_new = False
        while not is_new:
            while self._ready and self._ready[0][0] != limits:
                self._ready.popleft()[1].close()
            is_new = not self._ready
            channel = self._request(limits) if is_new else self._ready.popleft()[1]
            with contextlib.suppress(OSError):  # out of descriptors: these are not needed yet
                while len(self._ready) < self._pool and self.is_alive:
                    self._ready.append((limits, self._request(limits)))
            with contextlib.suppress(RootGone):  # a tree that was ready may have died since: try the next
                return await Family.connect(
                    channel,
                    limits=limits,
                    switched_off=frozenset(self.report.off),
                    on_violation=on_violation,
                    is_zygote_dying=self._is_dying,
                )
        raise ZygoteEnded(_ENDED_WORDS)

    def release(self, family: Family, end: FamilyEnd) -> None:
        """End a family."""
        self._families.discard(family)
        family.shut_down(end)

    async def close(self) -> None:
        """End the zygote and everything it made, and wait until all of it is gone: the launcher goes last."""
        self._die()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await self._process.wait()
        finally:
            self._lifeline.close()
            _kill(self._process)
        await self._process.wait()

    def _is_dying(self) -> bool:
        return not self.is_alive or is_dying(self.pid) or is_dying(self.report.pid)

    def _request(self, limits: Limits) -> Channel:
        """The channel to a tree's first process, which the zygote will make."""
        channel, theirs = Channel.pair()
        options = TreeOptions(
            cpu_s=ceil(limits.cpu_s),
            memory_mb=limits.memory_mb,
            stack_mb=limits.stack_mb,
            open_files=limits.open_files,
            output_bytes=limits.output_bytes,
        )
        with theirs:
            try:
                self._control.send(encode_options(options), theirs.fileno())
            except OSError:
                self._die()  # the channel then ends before its first frame
        return channel

    def _die(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        for family in self._families:
            family.shut_down(FamilyEnd.ZYGOTE)
        self._families.clear()
        for _, channel in self._ready:
            channel.close()
        self._ready.clear()
        self._control.close()  # its end is seen by launcher and zygote both


async def _launch(off: dict[Mechanism, str], undo: contextlib.ExitStack) -> tuple[Process, Channel, BinaryIO]:
    """A zygote that is starting, and our ends of its channel and its lifeline, which `undo` closes."""
    control, theirs = Channel.pair()
    undo.callback(control.close)
    with theirs:
        watched, held = os.pipe()
        lifeline = undo.enter_context(os.fdopen(held, "wb", buffering=0))
        with os.fdopen(watched, "rb", buffering=0):
            plan = {
                "control_fd": theirs.fileno(),
                "lifeline_fd": watched,
                "switched_off": list(off),
                "folders": asdict(find_folders()),
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-S", "-P", "-c", _ENTRY, _PACKAGE, json.dumps(plan)),
                env=_ENVIRONMENT,
                cwd="/",
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(), watched),
            )
    return process, control, lifeline


def _kill(process: Process) -> None:
    # Not process.kill(): it first polls, and so may take the exit status from asyncio, which would log a warning.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _await_ready(control: Channel, launcher_pid: int, off: dict[Mechanism, str]) -> ZygoteReport:
    """Wait for the zygote's report of itself. Answers its request for user maps."""
    try:
        async with asyncio.timeout(_START_S):
            while (message := await control.expect()).frame:
                said: dict[str, Any] = json.loads(message.frame)
                if "ready" in said:
                    return _report(said["ready"], message.pid, off)
                if "refused" in said:
                    if said["mechanism"] == Mechanism.NAMESPACES:
                        raise _NoNamespaces(said["refused"])
                    raise SandboxUnavailable(f"steps cannot be confined here: {said['refused']}")
                with contextlib.suppress(OSError):
                    write_maps(launcher_pid)
                with contextlib.suppress(OSError):  # it has ended, as the next frame shows
                    control.send(b"M")
    except TimeoutError:
        raise SandboxUnavailable(f"the zygote did not get ready within {_START_S:.0f} s") from None
    raise ZygoteEnded("the zygote ended before it was ready")


def _report(ready: dict[str, Any], pid: int, off: dict[Mechanism, str]) -> ZygoteReport:
    landlock_off = {Mechanism.LANDLOCK: ready["landlock_reason"]} if ready["landlock_reason"] else {}
    return ZygoteReport(
        missing=tuple(ready["missing"]),
        landlock_version=ready["landlock_version"],
        off={**off, **landlock_off},
        pid=pid,
    )
