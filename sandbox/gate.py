"""Gate: the server's end of the rule that a node forks only on a command of the server.

Two kinds. `NotificationGate`: the kernel asks before each clone and waits for the answer. `LimitGate`, where kernels
cannot ask: the limit of processes is 0 and lifted for the time of one fork. Step code passes neither.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import select
import struct
from collections.abc import Callable, Collection
from typing import ClassVar

_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_CONTINUE = 1
_NOTIFICATION = struct.Struct("<QI68x")
_ANSWER = struct.Struct("<QqiI")

_MOST_REFUSALS = 20_000
"""Each costs the server some 25 µs and the asking step nothing: a step that asks more often is taken for hostile."""

_SETTLE_S = 5.0
"""A fork takes milliseconds; the machine may be busy. One that takes longer costs the tree its processes."""

_SETTLE_POLL_S = 0.001

_MOST_LISTINGS = 10
"""Another process of the machine ends during one listing in ten at the most. Ten in a row do not happen by chance."""


class Gate:
    """One per tree; `open` and `shut` enclose the commanded fork of one node.

    This one allows every fork: for a family without a filter, the negative control of the tests.
    """

    description: ClassVar[str] = "none"
    """The mechanism that it uses."""

    def open(self, pid: int) -> None:
        """Let the process make one other."""

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        """Before `shut`: whether more processes than one have been made already, so that waiting on is of no use."""
        return False

    async def settle(self, pid: int, child: int) -> None:
        """After the child's hello, before `shut`: until a process that is being made now would be there to be seen."""

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        """Whether a process may have been made besides `child`, which said hello, and the `known` ones of the tree."""
        return child is None

    def forget(self, pid: int) -> None:
        """A process of the tree was killed: it may take a moment to go."""

    def close(self) -> None:
        """Allow no fork any more. Idempotent."""


class NotificationGate(Gate):
    """Answers the kernel's questions on `listener`, which it owns."""

    description = "the kernel asks the server before each fork"

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self.on_flood: Callable[[int], None] = lambda _: None
        """Called with the pid of a process that keeps asking."""
        self._may_fork: set[int] = set()
        self._has_forked: set[int] = set()
        self._refusals: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        asyncio.get_running_loop().add_reader(listener, self._answer)
        self._is_open = True

    def open(self, pid: int) -> None:
        self._may_fork.add(pid)

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        self._may_fork.discard(pid)
        is_used = pid in self._has_forked
        self._has_forked.discard(pid)
        return is_used and child is None

    def forget(self, pid: int) -> None:
        self._refusals.pop(pid, None)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self.listener)
            with contextlib.suppress(OSError):
                os.close(self.listener)

    def _answer(self) -> None:
        # Receiving blocks when no request is there, as at the end of the last process: poll first.
        events = self._poll.poll(0)
        if not events or not events[0][1] & select.POLLIN:
            if events:
                self.close()
            return
        question = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, question)
            number, pid = _NOTIFICATION.unpack(question)
            fcntl.ioctl(self.listener, _SEND, self._decide(number, pid))
        except FileNotFoundError:
            return  # the process was killed meanwhile
        except OSError:
            self.close()  # no answer will ever come: forks fail, and the tree gets a new family

    def _decide(self, number: int, pid: int) -> bytes:
        if pid in self._may_fork:
            # Once: what the new process is for is checked when it says hello.
            self._may_fork.discard(pid)
            self._has_forked.add(pid)
            return _ANSWER.pack(number, 0, 0, _CONTINUE)
        refusals = self._refusals[pid] = self._refusals.get(pid, 0) + 1
        if refusals == _MOST_REFUSALS:
            self.on_flood(pid)
        return _ANSWER.pack(number, 0, -errno.EPERM, 0)


class LimitGate(Gate):
    """Lifts the limit of processes for one node at a time. Needs the right to: the same user, or root over its own."""

    description = "a limit of processes that the server lifts for each fork"

    def __init__(self) -> None:
        self._killed: set[int] = set()

    def open(self, pid: int) -> None:
        _limit_processes(pid, is_lifted=True)

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        with contextlib.suppress(ProcessLookupError):
            members, _ = _list_group(os.getpgid(pid))
            return len(members - {*known, *self._killed}) > 1
        return False

    async def settle(self, pid: int, child: int) -> None:
        """A fork that began before the limit was there goes on, and cannot be seen before it is done."""
        processes = (pid, child)
        for process in processes:
            _limit_processes(process, is_lifted=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while any(map(_may_be_forking, processes)):  # noqa: ASYNC110  # the kernel sends no event
                    await asyncio.sleep(_SETTLE_POLL_S)

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        """The child inherits the lifted limit, and hooks of its parent's steps may have used it: counts the tree."""
        for process in (pid, child):
            if process is not None:
                _limit_processes(process, is_lifted=False)
        if child is None or _may_be_forking(pid) or _may_be_forking(child):
            return True
        try:
            members = _list_whole_group(os.getpgid(child))
        except ProcessLookupError:
            return True  # it is gone again, and with it the name of its group
        if members is None:
            return True
        self._killed &= members
        return not members <= {child, *known, *self._killed}

    def forget(self, pid: int) -> None:
        self._killed.add(pid)


def _limit_processes(pid: int, *, is_lifted: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        hard = resource.prlimit(pid, resource.RLIMIT_NPROC)[1]
        resource.prlimit(pid, resource.RLIMIT_NPROC, (hard if is_lifted else 0, hard))


def _may_be_forking(pid: int) -> bool:
    """False where the kernel says that it waits for something, is stopped, or is gone: it makes no process then."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "RD"


def _list_group(group: int) -> tuple[set[int], bool]:
    """The processes of a group, and whether these are surely all.

    They are not where a process went away before it could be asked: it may have been of the group, and left a child.
    """
    members: set[int] = set()
    is_sure = True
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getpgid(int(entry)) == group:
                    members.add(int(entry))
            except ProcessLookupError:
                is_sure = False
    return members, is_sure


def _list_whole_group(group: int) -> set[int] | None:
    """None where processes come and go so fast that some might never be met."""
    listings = (_list_group(group) for _ in range(_MOST_LISTINGS))
    return next((members for members, is_sure in listings if is_sure), None)
