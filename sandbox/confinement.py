"""Confinement: takes away what step code must not have. Linux only; runs inside the zygote and its children.

What all steps share is done once, by the zygote to itself (`enter_zygote` before it imports anything heavy,
`settle_zygote` after): own network, service uid, no capabilities, no new privileges, only the interpreter's files.
What is each step's own is done by its process before it reads any code (`enter_step`): descriptors, limits, the
system-call filter, death with the zygote.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import sys
import sysconfig
from typing import NamedTuple

from sandbox.landlock import restrict_reading
from sandbox.seccomp import Filter
from sandbox.syscalls import MACHINES
from sandbox.wire import Fork

SERVICE_UID = 65534
"""`nobody`: owns nothing on an ordinary system."""

STEP_SOCKET = 3
"""The descriptor of a step's socket: the first after the standard three."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/urandom")


class Settled(NamedTuple):
    """What `settle_zygote` could do, in words; None where it is done in full."""

    uid_shortfall: str | None
    reading_shortfall: str | None


class Confinement:
    """The steps of confinement, with what they need prepared beforehand."""

    def __init__(self) -> None:
        self._machine = platform.machine()
        if self._machine not in MACHINES:
            raise OSError(f"no system-call filter for {self._machine}; known: {', '.join(MACHINES)}")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._filter = Filter(MACHINES[self._machine])
        self._base_bytes = 0
        self._zygote_pid = 0

    def enter_zygote(self) -> str | None:
        """Leave the network; returns the reason where that is not possible. Must run before any thread exists."""
        flags = _CLONE_NEWNET | _CLONE_NEWIPC
        if self._libc.unshare(flags) == 0:
            return None
        uid, gid = os.getuid(), os.getgid()
        if self._libc.unshare(flags | _CLONE_NEWUSER) != 0:
            return f"no network namespace: {os.strerror(ctypes.get_errno())}"
        # Unmapped, the process would lose its identity and with it the right to read its own interpreter.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        return None

    def settle_zygote(self, *, server_pid: int) -> Settled:
        """Give up privileges and files, for good, and tie this process's life to the server's."""
        self._base_bytes = int(_read("/proc/self/statm").split()[0]) * resource.getpagesize()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # short of memory, the kernel shall take steps, not the server
        readable = _interpreter_paths()
        sys.path[:] = [path for path in sys.path if os.path.realpath(path).startswith(readable)]
        uid_shortfall = _become_service_user(readable)
        self._drop_capabilities()
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        try:
            restrict_reading(self._libc, (*readable, *_SYSTEM_LIBRARIES, *_DEVICES))
            reading_shortfall = None
        except OSError as error:
            reading_shortfall = f"no Landlock: {error.strerror}"
        # Last, as a change of credentials clears it.
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server_pid:
            sys.exit("the server is gone")
        self._zygote_pid = os.getpid()
        return Settled(uid_shortfall, reading_shortfall)

    def enter_step(self, fork: Fork, socket_fd: int) -> None:
        """Confine this step process; afterwards its only descriptors are the null device and `STEP_SOCKET`."""
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._zygote_pid:
            os._exit(0)
        os.dup2(socket_fd, STEP_SOCKET)
        os.closerange(STEP_SOCKET + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        mb = 1 << 20
        for name, soft, hard in (
            (resource.RLIMIT_AS, self._base_bytes + fork.memory_mb * mb, None),
            # The soft limit ends a step that leaves SIGXCPU alone, the hard one every other.
            (resource.RLIMIT_CPU, fork.cpu_s, fork.cpu_s + 1),
            (resource.RLIMIT_FSIZE, 0, None),
            (resource.RLIMIT_CORE, 0, None),
            (resource.RLIMIT_STACK, fork.stack_mb * mb, None),
            (resource.RLIMIT_NOFILE, fork.open_files, None),
            (resource.RLIMIT_MEMLOCK, 0, None),
            (resource.RLIMIT_MSGQUEUE, 0, None),
            (resource.RLIMIT_NPROC, 0, None),
        ):
            ceiling = resource.getrlimit(name)[1]
            wanted = soft if hard is None else hard
            most = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
            resource.setrlimit(name, (min(soft, most), most))
        self._filter.install(self._libc)

    def _drop_capabilities(self) -> None:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        if self._libc.syscall(_CAPSET[self._machine], header, nothing) != 0:
            raise OSError(ctypes.get_errno(), "cannot drop capabilities")

    def _prctl(self, option: int, value: int) -> None:
        if self._libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) refused")


def _interpreter_paths() -> tuple[str, ...]:
    """The standard library and installed packages; what else is on `sys.path` is nobody's business inside."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in names)
    return tuple(path for path in paths if os.path.isdir(path))


def _become_service_user(readable: tuple[str, ...]) -> str | None:
    """Stop being root where that leaves the interpreter usable; returns why not."""
    if os.geteuid() != 0:
        return None
    if not all(_is_readable_by_others(path) for path in readable):
        return f"still uid 0, without capabilities: uid {SERVICE_UID} could not read the interpreter"
    try:
        os.setgroups([])
        os.setresgid(SERVICE_UID, SERVICE_UID, SERVICE_UID)
        os.setresuid(SERVICE_UID, SERVICE_UID, SERVICE_UID)
    except OSError as error:
        return f"still uid 0, without capabilities: {error.strerror}"
    return None


def _is_readable_by_others(path: str) -> bool:
    """Whether a stranger may list `path` and pass through every directory above it."""
    if os.stat(path).st_mode & 0o005 != 0o005:
        return False
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
