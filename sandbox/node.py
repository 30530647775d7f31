"""Node: the loop of every process of a tree: fork a child when told to, run a step when told to, else wait.

Shares the interpreter with hostile code once a step has run: uses only names bound before that, and C-level methods,
except inside `Interpreter`. The server and the kernel decide who may fork or run.

A process namespace ends all its processes when it ends. On machines without such namespaces, a tree's first process
also holds a *lifeline*: a pipe that only the server could write to, but never does. When the server's end closes, the
kernel kills the tree's group. This needs no running process, and no step can prevent it: steps do not have the
descriptor, and cannot leave their group.
"""

import _socket
import fcntl
import os
import signal
import struct
import time

from sandbox.interpreter import Interpreter
from sandbox.wire import EXIT_MEMORY, FORK, HELLO, MAX_FRAME_BYTES, RUN, decode_run, encode_report

SOCKET = 3
"""The descriptor of a node's socket: the first after the standard three."""

_MOST_DESCRIPTORS = 1 << 20

_CLOSING_S = 5.0
"""A server that ends closes one descriptor right after the other; on a busy machine there is a pause between two."""


class Link:
    """This process's end of its socket, bound before any filter: making a socket object needs calls it refuses."""

    def __init__(self) -> None:
        # The C-level type: socket.socket wraps each call in Python code that a step could replace.
        self._socket = _socket.socket(fileno=SOCKET)
        self.receive = self._socket.recvmsg
        self.descriptor_space = _socket.CMSG_SPACE(4)


class Lifeline:
    """What a tree's first process does about its lifeline; does nothing in nodes, and where there is none."""

    def __init__(self, *, is_held: bool) -> None:
        self._is_held = is_held
        self._sleep = time.sleep
        if is_held:
            # A tree gets it that has lost its zygote. The process must live on until the server's end is closed.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def release(self) -> None:
        """Drop the lifeline in a forked child, which does not hold it."""
        if self._is_held:
            self._is_held = False
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def wait_for_kill(self) -> None:
        """The socket is closed: the lifeline may be next.

        Sleeps, and does not read the lifeline: a reader would return before the signal is sent, and end too early.
        """
        if self._is_held:
            self._sleep(_CLOSING_S)


def tie_group(lifeline: int) -> int | None:
    """Have the kernel kill the calling process's group when the server's end closes.

    Holds as long as a process of the group has the returned descriptor open. None on a machine that only imitates
    Linux, or without /proc: server, launcher and zygote still watch each other there.

    Call it while the process has the credentials of the zygote and is not bound by Landlock: the kernel later applies
    the rights to send signals that the process has now.
    """
    # Opened anew: owner and signal belong to an opened file, and each group needs its own.
    try:
        tied = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(tied, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(tied, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(tied, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except OSError:
        return None
    return tied


def adopt(descriptor: int, *, lifeline: int | None) -> None:
    """Make `descriptor` this process's socket, the next one its lifeline if it has one, and close all others.

    Nodes close the lifeline with all other files of their parent: it is enough that the first process holds it.
    """
    if lifeline is not None:
        lifeline = fcntl.fcntl(lifeline, fcntl.F_DUPFD_CLOEXEC, SOCKET + 2)  # out of the way of the socket
    os.dup2(descriptor, SOCKET)
    if lifeline is not None:
        os.dup2(lifeline, SOCKET + 1)
    os.closerange(SOCKET + (1 if lifeline is None else 2), _MOST_DESCRIPTORS)


def serve(link: Link, interpreter: Interpreter, lifeline: Lifeline) -> None:
    """Serve as a node until the server closes the socket. Never returns."""
    receive, space, exit_now = link.receive, link.descriptor_space, os._exit
    write, fork, dup2, close, closerange = os.write, os.fork, os.dup2, os.close, os.closerange
    unpack = struct.Struct("i").unpack
    run, restore_builtins = interpreter.run, interpreter.restore_builtins
    release_lifeline, wait_for_kill = lifeline.release, lifeline.wait_for_kill
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
                    release_lifeline()
                    write(SOCKET, HELLO)
                else:
                    close(descriptor)
            elif operation == RUN:
                write(SOCKET, encode_report(run(*decode_run(frame))))
            else:  # the server is gone
                wait_for_kill()
                exit_now(0)
    except MemoryError:
        exit_now(EXIT_MEMORY)
    finally:
        exit_now(1)
