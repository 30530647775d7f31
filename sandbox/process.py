"""Process: the server's hold on one process of a tree, by a pidfd, so that a reused pid is never signalled."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from sandbox.channel import Channel, watched

_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("<QQ11Ii")
_INFO_EXIT = 1 << 3

_GONE_S = 5.0
"""A killed process needs milliseconds to go, unless it frees gigabytes on a busy machine."""

_PAGE = resource.getpagesize()

_KILL_BIT = 1 << (signal.SIGKILL - 1)
_EXITING = 0x4
"""PF_EXITING in a process's flags."""


class Usage(NamedTuple):
    """Memory of a process."""

    resident_bytes: int
    """Shared with its parent or not."""
    own_bytes: int
    """At most this much is not shared with its parent."""


class NodeProcess:
    """A node: stopped, except while it forks or runs its step."""

    def __init__(self, pid: int, channel: Channel) -> None:
        """Raises ProcessLookupError where it has gone already."""
        self.pid = pid
        self.channel = channel
        self.forking = asyncio.Lock()  # invariant: one commanded fork at a time, so that a hello has one parent
        self.is_running = False
        """Its step runs: whoever runs it lets go of it."""
        self.pins = 0
        """How many are about to fork from it: it must not be evicted now."""
        self._pidfd = os.pidfd_open(pid)
        self._is_closed = False
        self._cpu_s = 0.0

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def condemn(self) -> None:
        """Kill, and leave it to whoever waits for its answer to let go of it."""
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """Kill, and let go of it."""
        self._signal(signal.SIGKILL)
        if not self._is_closed:
            self._is_closed = True
            self.channel.close()
            os.close(self._pidfd)

    async def end(self) -> int | None:
        """Kill if need be, wait until it is gone, let go; returns its exit code where the kernel tells it.

        One that was ending already keeps its own exit code.
        """
        if self._is_closed:
            return None
        self._signal(signal.SIGKILL)
        code: int | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GONE_S):
                    with self.watched() as gone:
                        await gone
            code = self._exit_code()
        finally:
            self.kill()
        return code

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Once, when the process has ended; it is let go of then. Nobody else may watch it."""
        loop = asyncio.get_running_loop()

        def on_readable() -> None:
            loop.remove_reader(self._pidfd)
            self.kill()
            callback()

        if not self._is_closed:
            loop.add_reader(self._pidfd, on_readable)

    def watched(self) -> AbstractContextManager[asyncio.Future[None]]:
        """Ends when the process has; its socket may stay open longer, in a parent stopped before it closed its copy."""
        return watched(self._pidfd)

    def cpu_seconds(self) -> float:
        """By the kernel's clock of that process; of one that is gone, as it was read last. Never goes back."""
        with contextlib.suppress(OSError):
            self._cpu_s = max(self._cpu_s, time.clock_gettime((~self.pid << 3) | 2))
        return self._cpu_s

    def usage(self) -> Usage:
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return Usage(0, 0)
        # A page is made its own by a fault: memory it took and gave back counts too, so never less than it has.
        resident = int(fields[21]) * _PAGE
        return Usage(resident, min(resident, int(fields[7]) * _PAGE))

    def _signal(self, number: int) -> None:
        if not self._is_closed:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _exit_code(self) -> int | None:
        """As of `os.waitstatus_to_exitcode`; None on kernels that tell only the parent."""
        answer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._pidfd, _GET_INFO, answer)
        except OSError:
            return None
        fields = _INFO.unpack(answer)
        return os.waitstatus_to_exitcode(fields[13]) if fields[0] & _INFO_EXIT else None


def is_dying(pid: int) -> bool:
    """Gone, ending, or killed and not aware of it yet."""
    try:
        # In this order: a signal that is no longer pending has been obeyed, which the second file then tells.
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            words = (line.split() for line in file if line.startswith(("SigPnd:", "ShdPnd:")))
            is_killed = any(int(mask, 16) & _KILL_BIT for _, mask in words)
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return True
    return is_killed or fields[0] in "ZX" or bool(int(fields[6]) & _EXITING)
