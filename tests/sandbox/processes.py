"""Processes: the processes below a zygote, their state, and bounded waits for changes without an event.

Reads /proc only. A process may be gone by the time it is read: it is then left out.
"""

import asyncio
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 60.0
"""Far beyond what anything here takes on a busy machine: only what never comes true gets there."""

_POLL_S = 0.01


class Process(NamedTuple):
    """One living process."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    cpu_ticks: int


def nodes_of(session: int | None) -> set[int]:
    """Every node of a zygote's session, running or stopped: neither launcher, nor zygote, nor a tree's root."""
    return {pid for pid, process in members_of(session).items() if process.group not in (session, pid)}


def members_of(session: int | None) -> dict[int, Process]:
    """Every living process of a session."""
    return {pid: process for pid, process in _table().items() if process.session == session}


def family_of(zygote_pid: int | None) -> dict[int, Process]:
    """Every living process of a zygote's session or descent, without the zygote."""
    table = _table()
    found: dict[int, Process] = {}
    for pid, process in table.items():
        ancestor = process
        while ancestor.pid != zygote_pid and ancestor.parent in table:
            ancestor = table[ancestor.parent]
        if zygote_pid in (ancestor.pid, process.session) and pid != zygote_pid:
            found[pid] = process
    return found


def children_of(parent: int) -> list[int]:
    """Its living children."""
    return [pid for pid, process in _table().items() if process.parent == parent]


def zygote_of(launcher: int) -> int:
    """The launcher's only child."""
    (zygote,) = children_of(launcher)
    return zygote


def is_computing(pid: int) -> bool:
    """Whether a step has begun in it, and not only a fork."""
    process = _table().get(pid)
    return process is not None and process.cpu_ticks >= 0.1 * os.sysconf("SC_CLK_TCK")


def listeners() -> list[int]:
    """This process's descriptors on which the kernel asks whether a step's process may fork."""
    found: list[int] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if "seccomp notify" in str(entry.readlink()):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def close_listeners() -> int:
    """Take away the kernel's way to ask, as a fault of the server would; returns how many there were."""
    taken = listeners()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for listener in taken:
        os.dup2(nothing, listener)  # closes it, and keeps its number from being given to something else
    os.close(nothing)
    return len(taken)


def is_gone(pidfd: int, *, within_s: float = PATIENCE_S) -> bool:
    """Whether its process has ended, or does in that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


async def until(is_so: Callable[[], bool], *, within_s: float = PATIENCE_S) -> bool:
    """Wait until it comes true; False where it does not in that time."""
    try:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110  # the kernel sends no event
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return is_so()
    return True


def _table() -> dict[int, Process]:
    found: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            state, parent, group, session = fields[0], *map(int, fields[1:4])
            if state not in "ZX":
                ticks = int(fields[11]) + int(fields[12])
                found[int(entry.name)] = Process(int(entry.name), parent, group, session, state, ticks)
    return found
