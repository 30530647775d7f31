"""NodeProcess: the server's end of one process of a tree: its socket, and a pidfd, so that no reused pid is signalled.

The sender of a frame is taken from the kernel alone. The kernel drops descriptors that a node pushes: the receiver has
no room for them.
"""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import socket
import struct
import time
from typing import NamedTuple, Self

from sandbox.wire import MAX_FRAME_BYTES

_CREDENTIALS = struct.Struct("3i")
_CREDENTIALS_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size)
_DESCRIPTOR_ROOM = socket.CMSG_SPACE(4)

_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("<QQ11Ii")
_INFO_EXIT = 1 << 3

_GONE_S = 5.0
"""A killed process needs milliseconds to go, unless it frees gigabytes on a busy machine."""

_PAGE = resource.getpagesize()

_KILL_BIT = 1 << (signal.SIGKILL - 1)
_EXITING = 0x4
"""PF_EXITING in a process's flags."""


class Message(NamedTuple):
    """One frame; empty at the end of the socket."""

    pid: int
    """Pid of the process that sent it, as this process numbers it; 0 at the end of the socket."""
    frame: bytes
    descriptor: int | None = None


class Channel:
    """The server's end of a socket to one process; belongs to the running event loop."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        self._ours = ours
        self._descriptor = ours.fileno()  # watched by number: asyncio describes a socket object in words each time

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """A channel, and the other end for the process that is to speak through it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, frame: bytes, descriptor: int | None = None) -> None:
        """Raises OSError where the other end is gone."""
        if descriptor is None:
            self._ours.send(frame)
        else:
            socket.send_fds(self._ours, [frame], [descriptor])

    def expect(self, *, may_have_descriptor: bool = False) -> asyncio.Future[Message]:
        """The next frame, or the end; a cancelled wait for it leaves it valid. One at a time.

        Only a process that has run no step may send a descriptor.
        """
        room = _CREDENTIALS_ROOM + (_DESCRIPTOR_ROOM if may_have_descriptor else 0)
        loop = asyncio.get_running_loop()
        message: asyncio.Future[Message] = loop.create_future()

        def on_readable() -> None:
            if message.done() or self._receive(message, room):
                loop.remove_reader(self._descriptor)

        if not self._receive(message, room):
            loop.add_reader(self._descriptor, on_readable)
        return message

    def last(self, message: asyncio.Future[Message]) -> Message:
        """The frame that an ended process left in the socket, or the end; another process may hold the socket."""
        if not message.done() and not self._receive(message, _CREDENTIALS_ROOM):
            message.set_result(Message(0, b""))
        asyncio.get_running_loop().remove_reader(self._descriptor)
        return message.result()

    def close(self) -> None:
        if self._ours.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._ours.close()

    def _receive(self, message: asyncio.Future[Message], room: int) -> bool:
        """Whether there was something to receive."""
        try:
            frame, ancillary, flags, _ = self._ours.recvmsg(MAX_FRAME_BYTES, room)
        except BlockingIOError:
            return False
        except OSError:
            frame, ancillary, flags = b"", [], 0
        sent = {kind: content for level, kind, content in ancillary if level == socket.SOL_SOCKET}
        pid = _CREDENTIALS.unpack(sent[socket.SCM_CREDENTIALS])[0] if socket.SCM_CREDENTIALS in sent else 0
        descriptor = struct.unpack("i", sent[socket.SCM_RIGHTS][:4])[0] if socket.SCM_RIGHTS in sent else None
        # A frame cut short was too long to be any of ours: it is passed on as malformed.
        message.set_result(Message(pid, b"?" if flags & socket.MSG_TRUNC else frame, descriptor))
        return True


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
        """Its step runs: the task that runs it also closes it."""
        self.pins = 0
        """How many are about to fork from it: it must not be evicted now."""
        self._pidfd = os.pidfd_open(pid)
        self._gone: asyncio.Future[None] | None = None
        self._is_closed = False
        self._cpu_s = 0.0

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill, and leave it to the task that waits for its answer to close it."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill, and close its descriptors. No task may be waiting for it."""
        self.kill()
        if not self._is_closed:
            self._is_closed = True
            self.channel.close()
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)

    async def end(self) -> int | None:
        """Kill, wait until it is gone, close; returns its exit code if the kernel reports it.

        One that was ending already keeps its own exit code.
        """
        if self._is_closed:
            return None
        self.kill()
        try:
            await asyncio.wait([self.gone()], timeout=_GONE_S)
            return self._exit_code()
        finally:
            self.close()

    def gone(self) -> asyncio.Future[None]:
        """Done when the process has ended; not to be cancelled. For one that is not closed.

        The socket may stay open longer, in a parent that was stopped before it closed its copy.
        """
        if self._gone is None:
            gone = self._gone = asyncio.get_running_loop().create_future()

            def on_readable() -> None:
                asyncio.get_running_loop().remove_reader(self._pidfd)
                gone.set_result(None)

            asyncio.get_running_loop().add_reader(self._pidfd, on_readable)
        return self._gone

    def cpu_seconds(self) -> float:
        """CPU time by the kernel's clock of that process; after its end, the last value read. Never decreases."""
        with contextlib.suppress(OSError):
            self._cpu_s = max(self._cpu_s, time.clock_gettime((~self.pid << 3) | 2))
        return self._cpu_s

    def usage(self) -> Usage:
        """Its memory; zero if it is gone."""
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
        """The exit code as of `os.waitstatus_to_exitcode`; None on kernels that report it only to the parent."""
        answer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._pidfd, _GET_INFO, answer)
        except OSError:
            return None
        fields = _INFO.unpack(answer)
        return os.waitstatus_to_exitcode(fields[13]) if fields[0] & _INFO_EXIT else None


def is_dying(pid: int) -> bool:
    """Whether it is gone, ending, or killed without having noticed."""
    try:
        # In this order: a signal that is no longer pending has been obeyed, and the second file then shows it.
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            words = (line.split() for line in file if line.startswith(("SigPnd:", "ShdPnd:")))
            is_killed = any(int(mask, 16) & _KILL_BIT for _, mask in words)
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return True
    return is_killed or fields[0] in "ZX" or bool(int(fields[6]) & _EXITING)
