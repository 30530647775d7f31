"""Lifeline: a pipe that only the server can write to, and never does: when its end closes, the kernel kills.

For where there are no process namespaces, whose end is the end of all in them. It needs no process that still runs to
look, and no step can undo it: steps do not have the descriptor, and cannot leave their group.
"""

import fcntl
import os
import signal
import time

_CLOSING_S = 5.0
"""What a server that ends has open is closed one right after the other, on a busy machine with a pause."""


def tie_group(lifeline: int) -> int:
    """Have the server's end, however it comes, kill the calling process's group, as long as one of it holds the result.

    Raises OSError. For a process whose credentials are still those of the zygote, and which Landlock does not bind yet:
    what it may signal is what the kernel goes by later.
    """
    # Opened anew: owner and signal belong to an opened file, and each group needs its own.
    tied = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(tied, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(tied, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(tied, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return tied


class Keeper:
    """Keeps the lifeline in a tree's first process, which must not go before the server's end has gone through it.

    Does nothing in the nodes, and where there is no lifeline.
    """

    def __init__(self, *, is_holding: bool) -> None:
        self._is_holding = is_holding
        self._sleep = time.sleep
        if is_holding:
            # It comes to a tree that has lost its zygote, and would be before the server's end where both are killed.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def let_go(self) -> None:
        """For a child: it does not hold it."""
        if self._is_holding:
            self._is_holding = False
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def outlast(self) -> None:
        """The socket is closed: the lifeline may be next.

        Not by waiting for that: whoever waits is told before the signal is sent, and would be gone by then.
        """
        if self._is_holding:
            self._sleep(_CLOSING_S)
