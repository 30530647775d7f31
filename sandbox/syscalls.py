"""Syscalls: the numbers of those a step may make, per architecture, and what their arguments may be.

Everything else fails with EPERM: no process, thread, socket, signal to others, file change, shared memory or privilege
can be had.
"""

import os
from typing import NamedTuple


class Machine(NamedTuple):
    """An architecture's name for itself in seccomp, and its column in `SYSCALLS`."""

    audit_arch: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}

SYSCALLS: dict[str, tuple[int | None, int | None]] = {
    # Memory
    "brk": (12, 214),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    # Files, for reading (see ARGUMENT_RULES), and the step's own socket
    "access": (21, None),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "fstatfs": (138, 44),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "ioctl": (16, 29),
    "lseek": (8, 62),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "open": (2, None),
    "openat": (257, 56),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "recvmsg": (47, 212),
    "select": (23, None),
    "stat": (4, None),
    "statfs": (137, 43),
    "statx": (332, 291),
    "write": (1, 64),
    "writev": (20, 66),
    # Time
    "alarm": (37, None),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "getitimer": (36, 102),
    "gettimeofday": (96, 169),
    "nanosleep": (35, 101),
    "pause": (34, None),
    "setitimer": (38, 103),
    "time": (201, None),
    "times": (100, 153),
    # Signals to oneself
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    # What the process is
    "getcpu": (309, 168),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getgroups": (115, 158),
    "getpgid": (121, 155),
    "getpgrp": (111, None),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getpriority": (140, 141),
    "getrandom": (318, 278),
    "getresgid": (120, 150),
    "getresuid": (118, 148),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "getsid": (124, 156),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "prlimit64": (302, 261),
    "sched_getaffinity": (204, 123),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    # Being forked, where the gate agrees (see ARGUMENT_RULES and sandbox.gate), locks, and the end
    "clone": (56, 220),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "membarrier": (324, 283),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "set_robust_list": (273, 99),
}


class NoBits(NamedTuple):
    """Allowed when none of `mask` is set in the argument's low half."""

    argument: int
    mask: int


class OneOf(NamedTuple):
    """Allowed when the argument's low half is one of `values`; the kernel ignores the high half of all of these."""

    argument: int
    values: tuple[int, ...]


class IsNull(NamedTuple):
    """Allowed when the whole argument is 0."""

    argument: int


SETUP_CALLS: dict[str, tuple[int, int]] = {
    "capset": (126, 91),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
}
"""What confinement itself needs before the filter is there, by number because the C library may not name it."""

UNKNOWN_CALLS: dict[str, tuple[int, int]] = {"clone3": (435, 435)}
"""Answered as if the kernel were older: the C library then falls back to a call whose arguments a filter can read."""

FORK_FLAGS = 0x01200011
"""CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD: the C library's fork, and nothing else."""

_CHANGES_A_FILE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)

_MAP_SHARED = 0x01

ARGUMENT_RULES: dict[str, NoBits | OneOf | IsNull] = {
    "open": NoBits(1, _CHANGES_A_FILE),
    "openat": NoBits(2, _CHANGES_A_FILE),
    # Shared memory would tie siblings together: each must find its parent's state as it was.
    "mmap": NoBits(3, _MAP_SHARED),
    "clone": OneOf(0, (FORK_FLAGS,)),
    # Duplicate, and flags of the descriptor. Not F_SETOWN, which has the kernel signal others; no locks; no F_SETFL:
    # the null device is open in all, and its flags would carry messages.
    "fcntl": OneOf(1, (0, 1, 2, 3, 1030)),
    # Is it a terminal, its size, close on exec, bytes waiting.
    "ioctl": OneOf(1, (0x5401, 0x5413, 0x5450, 0x5451, 0x541B)),
    # Reading limits only.
    "prlimit64": IsNull(2),
}
