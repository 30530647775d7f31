"""Seccomp: the kernel's filters on what step code may ask of it, assembled from `sandbox.syscalls` as classic BPF.

Two filters, both inherited by every node of a tree. The *gate* has the kernel ask the server before any fork; the
*allow-list* refuses everything that is not listed. The kernel obeys the stricter answer, so a fork needs both.
"""

import ctypes
import errno
import struct

from sandbox.libc import Libc
from sandbox.syscalls import ARGUMENT_RULES, FORK_FLAGS, SYSCALLS, UNKNOWN_CALLS, IsNull, Machine, NoBits, OneOf

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
    """Ready filters; installing one is one system call. Both need no_new_privs and raise OSError where refused."""

    def __init__(self, libc: Libc) -> None:
        self._libc = libc
        self._gate = gate_code(libc.machine)
        self._allow_list = allow_list_code(libc.machine)

    def install_gate(self) -> int:
        """Returns the descriptor on which the kernel asks; whoever holds it answers for this process's descendants."""
        return self._install(self._gate, _NEW_LISTENER)

    def install_allow_list(self) -> None:
        self._install(self._allow_list, 0)

    def _install(self, code: bytes, flags: int) -> int:
        program = _Program(len(code) // 8, code)
        return self._libc.call("seccomp", _SET_MODE_FILTER, flags, ctypes.byref(program))


def gate_code(machine: Machine) -> bytes:
    """Ask before a clone; leave all else to the allow-list."""
    number = SYSCALLS["clone"][machine.column]
    assert number is not None
    code = _foreign_machines_die(machine) + _instruction(_LOAD_WORD, _NUMBER)
    code += _instruction(_JUMP_IF_EQUAL, number, if_false=3)
    code += _load_low(0) + _instruction(_JUMP_IF_EQUAL, FORK_FLAGS, if_false=1) + _instruction(_RETURN, _ASK)
    return code + _instruction(_RETURN, _ALLOW)


def allow_list_code(machine: Machine) -> bytes:
    code = bytearray(_foreign_machines_die(machine) + _instruction(_LOAD_WORD, _NUMBER))
    for name, numbers in SYSCALLS.items():
        number = numbers[machine.column]
        if number is not None:
            body = _decision(name)
            code += _instruction(_JUMP_IF_EQUAL, number, if_false=len(body) // 8) + body
    for numbers in UNKNOWN_CALLS.values():
        code += _instruction(_JUMP_IF_EQUAL, numbers[machine.column], if_false=1) + _instruction(_RETURN, _UNKNOWN)
    return bytes(code + _instruction(_RETURN, _REFUSE))


def _foreign_machines_die(machine: Machine) -> bytes:
    """Another architecture's numbers mean other calls: no answer but the end is safe."""
    load = _instruction(_LOAD_WORD, _ARCH)
    return load + _instruction(_JUMP_IF_EQUAL, machine.audit_arch, if_true=1) + _instruction(_RETURN, _KILL_PROCESS)


def _decision(name: str) -> bytes:
    """What to do once the number has matched; always ends in a return."""
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _REFUSE)
    match ARGUMENT_RULES.get(name):
        case None:
            return allow
        case NoBits(argument, mask):
            check = _instruction(_JUMP_IF_ANY_BIT, mask, if_true=1)
            return _load_low(argument) + check + allow + refuse
        case OneOf(argument, values):
            checks = (_instruction(_JUMP_IF_EQUAL, value, if_false=1) + allow for value in values)
            return _load_low(argument) + b"".join(checks) + refuse
        case IsNull(argument):
            low = _instruction(_JUMP_IF_EQUAL, 0, if_false=3)
            high = _instruction(_JUMP_IF_EQUAL, 0, if_false=1)
            return _load_low(argument) + low + _load_high(argument) + high + allow + refuse


def _load_low(argument: int) -> bytes:
    return _instruction(_LOAD_WORD, 16 + 8 * argument)


def _load_high(argument: int) -> bytes:
    return _instruction(_LOAD_WORD, 20 + 8 * argument)


def _instruction(operation: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter: jumps count the instructions skipped."""
    return struct.pack("<HBBI", operation, if_true, if_false, operand)
