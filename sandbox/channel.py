"""Channel: the server's end of the socket to one process of a tree. Knows who speaks by the kernel's word only.

Descriptors that a node pushes are dropped by the kernel: there is room for none.
"""

import asyncio
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple, Self

from sandbox.wire import MAX_FRAME_BYTES

_CREDENTIALS = struct.Struct("3i")
_ROOM_FOR_CREDENTIALS = socket.CMSG_SPACE(_CREDENTIALS.size)
_ROOM_FOR_ONE_MORE = socket.CMSG_SPACE(4)


class Heard(NamedTuple):
    """One frame; empty at the end of the socket."""

    pid: int
    """Of the process that sent it, as this process numbers it."""
    frame: bytes


class Channel:
    """Belongs to the running event loop."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        self._ours = ours
        self._descriptor = ours.fileno()  # watched by number: asyncio describes a socket object in words each time

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """A channel, and the other end for whoever is to speak through it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, frame: bytes, descriptor: int | None = None) -> None:
        """Raises OSError where the other end is gone."""
        if descriptor is None:
            self._ours.send(frame)
        else:
            socket.send_fds(self._ours, [frame], [descriptor])

    def expect(self) -> asyncio.Future[Heard]:
        """The next frame, or the end; cancelling whoever waits leaves it valid. One at a time."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Heard] = loop.create_future()
        if not self._try(heard):
            loop.add_reader(self._descriptor, self._on_readable, heard)
        return heard

    def expect_listener(self) -> asyncio.Future[tuple[Heard, int | None]]:
        """Like `expect`, for the one frame that may carry a descriptor: the first, of a root that has run no step."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[tuple[Heard, int | None]] = loop.create_future()

        def on_readable() -> None:
            loop.remove_reader(self._descriptor)
            if not heard.done():
                heard.set_result(_receive(self._ours, room=_ROOM_FOR_CREDENTIALS + _ROOM_FOR_ONE_MORE))

        loop.add_reader(self._descriptor, on_readable)
        return heard

    def give_up(self, heard: asyncio.Future[Heard]) -> Heard:
        """The speaker is gone, though another process may hold its end: what it left in the socket, or the end."""
        if not heard.done() and not self._try(heard):
            heard.set_result(Heard(0, b""))
        asyncio.get_running_loop().remove_reader(self._descriptor)
        return heard.result()

    def close(self) -> None:
        if self._ours.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._ours.close()

    def _on_readable(self, heard: asyncio.Future[Heard]) -> None:
        if heard.done() or self._try(heard):
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _try(self, heard: asyncio.Future[Heard]) -> bool:
        try:
            heard.set_result(_receive(self._ours, room=_ROOM_FOR_CREDENTIALS)[0])
        except BlockingIOError:
            return False
        return True


@contextmanager
def watched(descriptor: int) -> Generator[asyncio.Future[None]]:
    """For a pidfd: ends when its process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(descriptor)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, on_readable)
    try:
        yield ready
    finally:
        loop.remove_reader(descriptor)


def _receive(ours: socket.socket, *, room: int) -> tuple[Heard, int | None]:
    try:
        frame, ancillary, flags, _ = ours.recvmsg(MAX_FRAME_BYTES, room)
    except BlockingIOError:
        raise
    except OSError:
        return Heard(0, b""), None
    pid, descriptor = 0, None
    for level, kind, content in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(content)[0]
        elif kind == socket.SCM_RIGHTS:
            descriptor = struct.unpack("i", content[:4])[0]
    # A frame cut short would have been too long to be any of ours: it is passed on as the nonsense it is.
    return Heard(pid, b"?" if flags & socket.MSG_TRUNC else frame), descriptor
