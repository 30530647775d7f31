"""Seccomp: which system calls step code may make, and the kernel's filters that hold it to that.

The table gives the numbers per architecture, and the rules give the allowed arguments. All other calls fail with EPERM:
no process, thread, socket, signal to others, file change, shared memory or privilege. Two filters, both inherited by
every node of a tree: the *gate* has the kernel ask the server before any fork, the *allow-list* refuses everything that
is not listed. The kernel obeys the stricter answer, so a fork needs both.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from sandbox.libc import Libc, Machine

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

_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_ANY_BIT = 0x45
_RETURN = 0x06

_ALLOW = 0x7FFF0000
_ASK = 0x7FC00000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_KILL_PROCESS = 0x80000000

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6] (both machines are little-endian).
_NUMBER = 0
_ARCH = 4

_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class Filters:
    """The two filters, assembled; installing one is one system call.

    Both need no_new_privs, hold for the process and all its descendants, and cannot be taken off. Raise OSError where
    the kernel refuses them.
    """

    def __init__(self, libc: Libc) -> None:
        self._libc = libc
        self._gate = _gate_code(libc.machine)
        self._allow_list = _allow_list_code(libc.machine)

    def install_gate(self) -> int:
        """Returns the descriptor on which the kernel asks: its holder answers for this process's descendants."""
        return self._install(self._gate, _NEW_LISTENER)

    def install_allow_list(self) -> None:
        """The last step of confinement: hardly any system call for making another is left afterwards."""
        self._install(self._allow_list, 0)

    def _install(self, code: bytes, flags: int) -> int:
        program = _Program(len(code) // 8, code)
        return self._libc.call("seccomp", _SET_MODE_FILTER, flags, ctypes.byref(program))


def _gate_code(machine: Machine) -> bytes:
    """Ask before a clone; leave all else to the allow-list."""
    number = SYSCALLS["clone"][machine.column]
    assert number is not None
    code = _kill_foreign_machines(machine) + _instruction(_LOAD_WORD, _NUMBER)
    code += _instruction(_JUMP_IF_EQUAL, number, if_false=3)
    code += _load(0) + _instruction(_JUMP_IF_EQUAL, FORK_FLAGS, if_false=1) + _instruction(_RETURN, _ASK)
    return code + _instruction(_RETURN, _ALLOW)


def _allow_list_code(machine: Machine) -> bytes:
    code = bytearray(_kill_foreign_machines(machine) + _instruction(_LOAD_WORD, _NUMBER))
    for name, numbers in SYSCALLS.items():
        number = numbers[machine.column]
        if number is not None:
            body = _decision(name)
            code += _instruction(_JUMP_IF_EQUAL, number, if_false=len(body) // 8) + body
    for numbers in UNKNOWN_CALLS.values():
        code += _instruction(_JUMP_IF_EQUAL, numbers[machine.column], if_false=1) + _instruction(_RETURN, _UNKNOWN)
    return bytes(code + _instruction(_RETURN, _REFUSE))


def _kill_foreign_machines(machine: Machine) -> bytes:
    """Another architecture's numbers mean other calls: only ending the process is safe."""
    load = _instruction(_LOAD_WORD, _ARCH)
    return load + _instruction(_JUMP_IF_EQUAL, machine.audit_arch, if_true=1) + _instruction(_RETURN, _KILL_PROCESS)


def _decision(name: str) -> bytes:
    """What to do once the number has matched; always ends in a return."""
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _REFUSE)
    match ARGUMENT_RULES.get(name):
        case None:
            return allow
        case NoBits(argument, mask):
            return _load(argument) + _instruction(_JUMP_IF_ANY_BIT, mask, if_true=1) + allow + refuse
        case OneOf(argument, values):
            checks = (_instruction(_JUMP_IF_EQUAL, value, if_false=1) + allow for value in values)
            return _load(argument) + b"".join(checks) + refuse
        case IsNull(argument):
            low = _load(argument) + _instruction(_JUMP_IF_EQUAL, 0, if_false=3)
            high = _load(argument, offset=4) + _instruction(_JUMP_IF_EQUAL, 0, if_false=1)
            return low + high + allow + refuse


def _load(argument: int, *, offset: int = 0) -> bytes:
    """The low half of an argument; the high one lies 4 bytes further on."""
    return _instruction(_LOAD_WORD, 16 + 8 * argument + offset)


def _instruction(operation: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter: jumps count the instructions skipped."""
    return struct.pack("<HBBI", operation, if_true, if_false, operand)
