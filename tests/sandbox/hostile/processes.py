"""Processes: who lives below a zygote, what they burn, and what descriptors are open here. Reads /proc only."""

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    state: str
    cpu_ticks: int


def processes_of(zygote_pid: int | None) -> dict[int, Process]:
    """Every living process of a zygote's session or descent, without the zygote."""
    table = {process.pid: process for process in _table()}
    found: dict[int, Process] = {}
    for pid, process in table.items():
        ancestor = process
        while ancestor.pid != zygote_pid and ancestor.parent in table:
            ancestor = table[ancestor.parent]
        if zygote_pid in (ancestor.pid, process.session) and pid != zygote_pid and process.state not in "ZX":
            found[pid] = process
    return found


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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


def _table() -> list[Process]:
    found: list[Process] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parent, session, ticks = int(fields[1]), int(fields[3]), int(fields[11]) + int(fields[12])
            found.append(Process(int(entry.name), parent, session, fields[0], ticks))
    return found
