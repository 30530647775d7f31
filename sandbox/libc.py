"""Libc: the system calls that Python has no function for, by ctypes. Each raises OSError with the kernel's reason.

It knows only numbers and the order of arguments.
"""

import ctypes
import os
import platform
import struct
from typing import NamedTuple

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8

_MNT_DETACH = 2
_READ_ONLY = 1 | 2 | 4
"""MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV."""
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1

_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63


class Machine(NamedTuple):
    """An architecture's name for itself in seccomp, and its column in the tables of system-call numbers."""

    audit_arch: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}

SETUP_CALLS: dict[str, tuple[int, int]] = {
    "capset": (126, 91),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
}
"""What confinement itself calls before the filter is there. By number: the C library may not have the names."""


class Libc:
    """The C library of this process."""

    def __init__(self) -> None:
        machine = platform.machine()
        if machine not in MACHINES:
            raise OSError(f"no system-call table for {machine}; known: {', '.join(MACHINES)}")
        self.machine = MACHINES[machine]
        self._library = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> int:
        """A system call of `SETUP_CALLS` by its number."""
        number = SETUP_CALLS[name][self.machine.column]
        return _checked(self._library.syscall(number, *arguments), name)

    def prctl(self, option: int, *arguments: int) -> int:
        padded = (*arguments, 0, 0, 0, 0)[:4]
        return _checked(self._library.prctl(option, *map(ctypes.c_ulong, padded)), f"prctl({option})")

    def unshare(self, flags: int) -> None:
        _checked(self._library.unshare(flags), "unshare")

    def setns(self, descriptor: int, kind: int) -> None:
        _checked(self._library.setns(descriptor, kind), "setns")

    def mount(self, source: str, target: str, *, kind: str | None = None, flags: int = 0, options: str = "") -> None:
        arguments = (source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), options.encode())
        _checked(self._library.mount(*arguments), f"mount on {target}")

    def make_read_only(self, path: str, *, is_recursive: bool) -> None:
        """A mount; without set-user-id programs and device files, too."""
        wanted = struct.pack("<QQQQ", _READ_ONLY, 0, 0, 0)
        flags = _AT_RECURSIVE if is_recursive else 0
        self.call("mount_setattr", _AT_FDCWD, path.encode(), flags, wanted, ctypes.c_size_t(len(wanted)))

    def detach(self, path: str) -> None:
        """Unmount it for those who do not use it yet."""
        _checked(self._library.umount2(path.encode(), _MNT_DETACH), f"unmount of {path}")

    def drop_capabilities(self) -> None:
        """Give up every capability, and the possibility to get one back."""
        for capability in range(_LAST_CAPABILITY + 1):
            try:
                self.prctl(PR_CAPBSET_DROP, capability)
            except OSError:
                # Unknown to this kernel, or nothing in the set that this process may drop: it has no rights to it.
                continue
        try:
            self.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        finally:
            header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
            nothing = (ctypes.c_uint32 * 6)()
            self.call("capset", header, nothing)


def _checked(returned: int, what: str) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return returned
