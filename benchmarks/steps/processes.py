"""Processes: the processes in a sandbox's session, and how much memory each takes. Reads /proc only."""

import os
from pathlib import Path
from typing import NamedTuple

_KB = 1024


class Process(NamedTuple):
    """One living process."""

    pid: int
    parent: int
    group: int

    def is_node(self, session: int) -> bool:
        """Whether it is not the launcher, the zygote or a tree's first process (which leads its group)."""
        return self.group not in (session, self.pid)


class Memory(NamedTuple):
    """Memory in bytes, as the kernel apportions it."""

    pss: int
    private_dirty: int


def members(session: int | None) -> list[Process]:
    """Every living process of a session; none if there is no session."""
    found: list[Process] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(Process(pid=int(entry.name), parent=int(fields[1]), group=int(fields[2])))
    return found


def memory_of(pid: int) -> Memory:
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * _KB
    return Memory(pss=fields["Pss"], private_dirty=fields["Private_Dirty"])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
