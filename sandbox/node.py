"""Node: the loop of every process of a tree: fork a child when told to, run a step when told to, else wait.

Shares the interpreter with hostile code once a step has run: uses only names bound before that, and C-level methods,
except inside `Interpreter`. Decides nothing: who may fork or run is the server's and the kernel's business.
"""

import _socket
import fcntl
import os
import socket
import struct

from sandbox.lifeline import Keeper
from sandbox.step import Interpreter
from sandbox.wire import EXIT_MEMORY, FORK, HELLO, MAX_FRAME_BYTES, RUN, decode_run, encode_report

SOCKET = 3
"""The descriptor of a node's socket: the first after the standard three."""

_MOST_DESCRIPTORS = 1 << 20


class Link:
    """This process's end of its socket, bound before any filter: making a socket object needs calls it refuses."""

    def __init__(self) -> None:
        # The C-level type: socket.socket wraps each call in Python code that a step could replace.
        self._socket = _socket.socket(fileno=SOCKET)
        self.receive = self._socket.recvmsg
        self.descriptor_space = _socket.CMSG_SPACE(4)


def adopt(descriptor: int, *, lifeline: int | None) -> None:
    """Make `descriptor` this process's socket, the next one its lifeline if it has one, and close all others.

    Nodes close the lifeline with whatever else their parent has open: that the first process holds it is enough.
    """
    if lifeline is not None:
        lifeline = fcntl.fcntl(lifeline, fcntl.F_DUPFD_CLOEXEC, SOCKET + 2)  # out of the way of the socket
    os.dup2(descriptor, SOCKET)
    if lifeline is not None:
        os.dup2(lifeline, SOCKET + 1)
    os.closerange(SOCKET + (1 if lifeline is None else 2), _MOST_DESCRIPTORS)


def serve(link: Link, interpreter: Interpreter, keeper: Keeper) -> None:
    """Serve as a node until the server closes the socket. Never returns."""
    receive, space, exit_now = link.receive, link.descriptor_space, os._exit
    write, fork, dup2, close, closerange = os.write, os.fork, os.dup2, os.close, os.closerange
    unpack = struct.Struct("i").unpack
    run, restore_builtins = interpreter.run, interpreter.restore_builtins
    let_go, outlast = keeper.let_go, keeper.outlast
    try:
        while True:
            frame, ancillary, _, _ = receive(MAX_FRAME_BYTES, space)
            restore_builtins()
            operation = frame[:1]
            if operation == FORK:
                (descriptor,) = unpack(ancillary[0][2])
                if fork() == 0:
                    # Files that the parent's step left open would be read by its siblings too: they are closed.
                    dup2(descriptor, SOCKET)
                    closerange(SOCKET + 1, _MOST_DESCRIPTORS)
                    let_go()
                    write(SOCKET, HELLO)
                else:
                    close(descriptor)
            elif operation == RUN:
                write(SOCKET, encode_report(run(*decode_run(frame))))
            else:  # the server is gone
                outlast()
                exit_now(0)
    except MemoryError:
        exit_now(EXIT_MEMORY)
    finally:
        exit_now(1)


def descriptor_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The one descriptor that came with a frame."""
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return struct.unpack("i", content[:4])[0]
    raise OSError("no descriptor came with the frame")
