"""Gate: the server's end of the rule that a node makes a process only when the server has just told it to.

Two kinds. `NotificationGate`: the kernel asks before each clone and waits for the answer. `LimitGate`, where kernels
cannot ask: the limit of processes is 0 and lifted for the time of one fork. Neither is passed by step code.
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
from typing import ClassVar, NamedTuple, Protocol

_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_CONTINUE = 1
_NOTIFICATION = struct.Struct("<QI68x")
_ANSWER = struct.Struct("<QqiI")

_MOST_REFUSALS = 20_000
"""Each costs the server some 25 µs and the asking step nothing: a step that asks more often is up to no good."""

_QUIET_S = 5.0
"""A fork takes milliseconds; the machine may be busy. One that takes longer costs the tree its processes."""

_QUIET_LOOK_S = 0.001

_MOST_LOOKS = 10
"""Somebody else's process ends during one look in ten at the most; ten times in a row, it is somebody's doing."""


class Gate(Protocol):
    """One per tree; `open` and `shut` enclose the commanded fork of one node."""

    words: ClassVar[str]
    """What it rests on."""

    def open(self, pid: int) -> None: ...

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        """Before `shut`: whether more processes than one have been made already, so that waiting on is of no use."""
        ...

    async def narrow(self, pid: int, child: int) -> None:
        """After the child's hello, before `shut`: until a process that is being made now would be there to be seen."""
        ...

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        """Whether a process may have been made besides `child`, which said hello, and the `known` ones of the tree."""
        ...

    def forget(self, pid: int) -> None:
        """A process of the tree was killed: it may take a moment to go."""
        ...

    def close(self) -> None: ...


class NotificationGate:
    """Answers the kernel's questions. `on_flood` is told the pid of a process that keeps asking."""

    words: ClassVar[str] = "the kernel asks the server before each fork"

    def __init__(self, listener: int, *, on_flood: Callable[[int], None]) -> None:
        self.listener = listener
        self._on_flood = on_flood
        self._may_fork: set[int] = set()
        self._has_forked: set[int] = set()
        self._refusals: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        asyncio.get_running_loop().add_reader(listener, self._answer)
        self._is_open = True

    def open(self, pid: int) -> None:
        self._may_fork.add(pid)

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        return False  # the kernel lets one through

    async def narrow(self, pid: int, child: int) -> None:
        pass

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
        # Receiving blocks when nobody asks, as at the end of the last process: look first.
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
            self._on_flood(pid)
        return _ANSWER.pack(number, 0, -errno.EPERM, 0)


class LimitGate:
    """Lifts the limit of processes for one node at a time. Needs the right to: the same user, or root over its own."""

    words: ClassVar[str] = "a limit of processes that the server lifts for each fork"

    def __init__(self) -> None:
        self._dying: set[int] = set()

    def open(self, pid: int) -> None:
        _limit_processes(pid, is_lifted=True)

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return len(_look_at_group(os.getpgid(pid)).members - {*known, *self._dying}) > 1
        return False

    async def narrow(self, pid: int, child: int) -> None:
        """A fork that began before the limit was there goes on, and cannot be seen before it is done."""
        processes = (pid, child)
        for process in processes:
            _limit_processes(process, is_lifted=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_S):
                while any(map(_may_be_forking, processes)):  # noqa: ASYNC110  # the kernel tells nobody
                    await asyncio.sleep(_QUIET_LOOK_S)

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        """The child inherits the lifted limit, and hooks of its parent's steps may have used it: counts the tree."""
        for process in (pid, child):
            if process is not None:
                _limit_processes(process, is_lifted=False)
        if child is None or _may_be_forking(pid) or _may_be_forking(child):
            return True
        try:
            members = _all_of_group(os.getpgid(child))
        except ProcessLookupError:
            return True  # it is gone again, and with it the name of its group
        if members is None:
            return True
        self._dying &= members
        return not members <= {child, *known, *self._dying}

    def forget(self, pid: int) -> None:
        self._dying.add(pid)

    def close(self) -> None:
        pass


class NoGate:
    """For the negative control of the tests: a family without a filter."""

    words: ClassVar[str] = "none"

    def open(self, pid: int) -> None:
        pass

    def is_overrun(self, pid: int, known: Collection[int]) -> bool:
        return False

    async def narrow(self, pid: int, child: int) -> None:
        pass

    def shut(self, pid: int, child: int | None, known: Collection[int]) -> bool:
        return child is None

    def forget(self, pid: int) -> None:
        pass

    def close(self) -> None:
        pass


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


class _Look(NamedTuple):
    """One look at the machine's processes."""

    members: set[int]
    """Of the group asked for."""
    is_sure: bool
    """No process went away before it could be asked: one may have been of the group, and have left a child."""


def _look_at_group(group: int) -> _Look:
    members: set[int] = set()
    is_sure = True
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getpgid(int(entry)) == group:
                    members.add(int(entry))
            except ProcessLookupError:
                is_sure = False
    return _Look(members, is_sure)


def _all_of_group(group: int) -> set[int] | None:
    """None where processes come and go so fast that some might never be met."""
    looks = (_look_at_group(group) for _ in range(_MOST_LOOKS))
    return next((look.members for look in looks if look.is_sure), None)
