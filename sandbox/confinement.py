"""Confinement: how launcher, zygote and trees give up rights for good, in the only order that works.

The launcher leaves the machine's namespaces, so that its children live in others; the first process of each tree gives
up rights, files and system calls, and its nodes inherit that. Any failure ends the process: nothing half-confined ever
runs a step. The zygote prepares everything that is needed only once.
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterable
from enum import StrEnum

from sandbox.libc import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_MDWE_REFUSE_EXEC_GAIN,
    PR_SET_MDWE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    Libc,
)
from sandbox.seccomp import Filters
from sandbox.wire import TreeOptions

SERVICE_UID = 65534
"""`nobody`: owns nothing on an ordinary system. Steps see it as theirs; under root it is theirs outside too."""

_MB = 1 << 20

_SPARE_CPU_S = 2
"""The server ends a step at its limit; the kernel does if the server is busy. A node also pays for forking children."""

_LANDLOCK_QUERY_VERSION = 1
_LANDLOCK_PATH_BENEATH = 1
_LANDLOCK_READ_FILE = 1 << 2
_LANDLOCK_READ_DIRECTORY = 1 << 3


class Mechanism(StrEnum):
    """Layers of confinement, each of which tests can switch off to see that the others hold."""

    NAMESPACES = "namespaces"
    """User, mount, process, network and other namespaces, and with them the mount view."""
    LANDLOCK = "landlock"
    """The kernel's list of readable files."""
    SECCOMP = "seccomp"
    """The allow-list of system calls, and the fork gate on it."""
    NOTIFICATION = "notification"
    """The fork gate that asks the server; without it, the gate uses the limit of processes."""


def enter_namespaces(libc: Libc, ask_for_maps: Callable[[], None]) -> None:
    """For the launcher: its children live apart afterwards. `ask_for_maps` has the server call `write_maps`.

    Must run before any thread exists. Raises OSError.
    """
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
    """For the server: give the launcher's user namespace its users. Root brings itself along, to set up the rest.

    It is written from outside, because the kernel lets no process inside write such a map. Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        users = f"0 0 1\n{SERVICE_UID} {SERVICE_UID} 1\n"
        maps = {"uid_map": users, "gid_map": users}
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
        self._own = os.pidfd_open(os.getpid())

    def renew(self) -> None:
        """Raises OSError."""
        # Only from its own namespace may a process make another one for its children.
        self._libc.setns(self._own, CLONE_NEWPID)
        self._libc.unshare(CLONE_NEWPID | CLONE_NEWIPC)


class Ruleset:
    """Landlock's rules, ready to be put on a process: every file but the listed ones is hidden.

    Also forbids TCP and signals to processes outside, where the kernel's version can. Made once, by the zygote; each
    tree takes them as its only layer. Kernels before 5.13 and some containers have no Landlock.
    """

    def __init__(self, libc: Libc, readable: Iterable[str]) -> None:
        """Only `readable` (and what is below) may be read, nothing written. Raises OSError without Landlock."""
        self._libc = libc
        self.version = libc.call("landlock_create_ruleset", None, ctypes.c_size_t(0), _LANDLOCK_QUERY_VERSION)
        attributes = _landlock_attributes(self.version)
        size = ctypes.c_size_t(len(attributes))
        self._descriptor = libc.call("landlock_create_ruleset", attributes, size, 0)
        for path in readable:
            self._allow(path)

    def restrict(self) -> None:
        """Bind the calling process for good; needs no_new_privs."""
        self._libc.call("landlock_restrict_self", self._descriptor, 0)

    def _allow(self, path: str) -> None:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            access = _LANDLOCK_READ_FILE | (_LANDLOCK_READ_DIRECTORY if os.path.isdir(path) else 0)
            rule = struct.pack("<Qi", access, target)
            self._libc.call("landlock_add_rule", self._descriptor, _LANDLOCK_PATH_BENEATH, rule, 0)
        finally:
            os.close(target)


def _landlock_attributes(version: int) -> bytes:
    """struct landlock_ruleset_attr: every kind of access this version can forbid; an unhandled kind stays allowed."""
    # From version 2 on link and rename across directories, from 3 truncate, from 5 ioctl on devices.
    kinds = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    attributes = struct.pack("<Q", (1 << kinds) - 1)
    # TCP bind and connect from version 4 on; abstract sockets and signals from 6 on.
    return attributes + struct.pack("<Q", 0b11) * ((version >= 4) + (version >= 6))


class Confinement:
    """Made by the zygote; `enter` runs in each tree's first process."""

    def __init__(
        self, libc: Libc, *, base_bytes: int, ruleset: Ruleset | None, switched_off: frozenset[Mechanism]
    ) -> None:
        """`base_bytes`: the preloaded interpreter's address space, which a step's memory comes on top of."""
        self._libc = libc
        self._ruleset = ruleset
        self._filters = None if Mechanism.SECCOMP in switched_off else Filters(libc)
        self._is_asking = Mechanism.NOTIFICATION not in switched_off
        self._base_bytes = base_bytes

    def enter(
        self, options: TreeOptions, *, hand_over: Callable[[int], None], close_others: Callable[[], None]
    ) -> None:
        """Confine this process. `hand_over` gets the fork gate's descriptor; `close_others` leaves only the socket.

        Raises OSError; the process must then end.
        """
        self._set_limits(options)
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(SERVICE_UID, SERVICE_UID, SERVICE_UID)
            os.setresuid(SERVICE_UID, SERVICE_UID, SERVICE_UID)
        self._libc.drop_capabilities()
        self._libc.prctl(PR_SET_NO_NEW_PRIVS, 1)
        if self._ruleset is not None:
            self._ruleset.restrict()
        close_others()
        with contextlib.suppress(OSError):  # newer kernels only: it makes attacks harder, but does not rule them out
            self._libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)
        if self._filters is None:
            return
        listener = self._install_gate(self._filters)
        if listener is None:
            # No more processes for this user: `sandbox.gate.LimitGate` lifts this for the time of a fork.
            resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
        else:
            hand_over(listener)
            os.close(listener)
        self._filters.install_allow_list()

    def _install_gate(self, filters: Filters) -> int | None:
        try:
            return filters.install_gate() if self._is_asking else None
        except OSError:
            return None  # a kernel before 5.5, or one that imitates Linux

    def _set_limits(self, options: TreeOptions) -> None:
        hard_cpu_s = options.cpu_s + _SPARE_CPU_S
        for name, soft, hard in (
            (resource.RLIMIT_AS, self._base_bytes + options.memory_mb * _MB, None),
            (resource.RLIMIT_CPU, hard_cpu_s, hard_cpu_s + 1),
            (resource.RLIMIT_FSIZE, 0, None),
            (resource.RLIMIT_CORE, 0, None),
            (resource.RLIMIT_STACK, options.stack_mb * _MB, None),
            (resource.RLIMIT_NOFILE, options.open_files, None),
            (resource.RLIMIT_MEMLOCK, 0, None),
            (resource.RLIMIT_MSGQUEUE, 0, None),
        ):
            ceiling = resource.getrlimit(name)[1]
            wanted = soft if hard is None else hard
            most = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
            resource.setrlimit(name, (min(soft, most), most))
