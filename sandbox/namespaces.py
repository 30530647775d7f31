"""Namespaces: takes the zygote and each tree out of the machine's users, mounts, processes, network and names.

The zygote's family lives in one process namespace, so that its end is the end of all; each tree has another below it.
Who may write the user map is the kernel's choice: the server does, from outside.
"""

import contextlib
import os
import signal
from collections.abc import Callable

from sandbox.libc import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_PDEATHSIG,
    Libc,
)

SERVICE_UID = 65534
"""`nobody`: owns nothing on an ordinary system. Steps see it as theirs; under root it is theirs outside too."""


def enter_namespaces(libc: Libc, ask_for_maps: Callable[[], None]) -> None:
    """For the launcher: afterwards its children live apart. Must run before any thread exists. Raises OSError."""
    libc.unshare(CLONE_NEWUSER)
    ask_for_maps()
    if os.getuid() not in (0, SERVICE_UID):
        raise OSError(f"no user map: uid {os.getuid()} inside")
    libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)
    with contextlib.suppress(OSError):  # hides a name that nothing inside can read anyway
        libc.unshare(CLONE_NEWCGROUP)
    # A change of namespace clears it, so only now.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def write_maps(pid: int) -> None:
    """For the server: give the launcher's user namespace its users. Root brings itself along, to set up the rest."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        maps = {
            "uid_map": f"0 0 1\n{SERVICE_UID} {SERVICE_UID} 1\n",
            "gid_map": f"0 0 1\n{SERVICE_UID} {SERVICE_UID} 1\n",
        }
    else:
        maps = {"setgroups": "deny", "uid_map": f"{SERVICE_UID} {uid} 1\n", "gid_map": f"{SERVICE_UID} {gid} 1\n"}
    for name, text in maps.items():
        # Unbuffered: the kernel wants the whole map in one write.
        with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
            file.write(text.encode())


class TreeNamespaces:
    """For the zygote: each child forked after `renew` is the first process of a process namespace of its own."""

    def __init__(self, libc: Libc) -> None:
        self._libc = libc
        self._ours = os.pidfd_open(os.getpid())

    def renew(self) -> None:
        # Only from its own namespace may a process make another one for its children.
        self._libc.setns(self._ours, CLONE_NEWPID)
        self._libc.unshare(CLONE_NEWPID | CLONE_NEWIPC)
