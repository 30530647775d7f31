"""Confinement: takes from a tree's first process, for good, what step code must not have; its nodes inherit that.

In the one order that works; any failure ends the process, and nothing half-confined ever runs a step. The same calls
serve the zygote's preparation: what can be made once is made there.
"""

import contextlib
import os
import resource
from collections.abc import Callable
from enum import StrEnum

from sandbox.landlock import Ruleset
from sandbox.libc import PR_MDWE_REFUSE_EXEC_GAIN, PR_SET_MDWE, PR_SET_NO_NEW_PRIVS, Libc
from sandbox.namespaces import SERVICE_UID
from sandbox.seccomp import Filters
from sandbox.wire import TreeOptions

_MB = 1 << 20

_SPARE_CPU_S = 2
"""The server ends a step at its limit; the kernel does if the server is busy. A node also pays for forking children."""


class Mechanism(StrEnum):
    """Layers that a test of the tests can leave out."""

    NAMESPACES = "namespaces"
    """User, mount, process, network and other namespaces, and with them the mount view."""
    LANDLOCK = "landlock"
    """The kernel's list of readable files."""
    SECCOMP = "seccomp"
    """The allow-list of system calls, and the fork gate on it."""
    NOTIFICATION = "notification"
    """The fork gate that asks the server; without it one that rests on the limit of processes."""


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
        """Confine this process. `hand_over` gets the fork gate's descriptor; `close_others` leaves only the socket."""
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
        with contextlib.suppress(OSError):  # newer kernels only: it makes attacks harder, and is no wall
            self._libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)
        if self._filters is None:
            return
        listener = self._install_gate(self._filters)
        if listener is None:
            _close_limit_gate()
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


def _close_limit_gate() -> None:
    """No more processes for this user: see `sandbox.gate.LimitGate`, which lifts this for the time of a fork."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
