"""Seccomp: the kernel's filter on what step code may ask of it, assembled from `sandbox.syscalls` as classic BPF."""

import ctypes
import errno
import struct

from sandbox.syscalls import ARGUMENT_RULES, SYSCALLS, IsNull, Machine, NoBits, OneOf

_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_ANY_BIT = 0x45
_RETURN = 0x06

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_KILL_PROCESS = 0x80000000

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6] (both machines are little-endian).
_NUMBER = 0
_ARCH = 4

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class Filter:
    """A ready filter; `install` is one system call, so that it costs a new process nothing to speak of."""

    def __init__(self, machine: Machine) -> None:
        self._code = _assemble(machine)
        self._program = _Program(len(self._code) // 8, self._code)

    def install(self, libc: ctypes.CDLL) -> None:
        """Bind the calling process for good; needs no_new_privs. Raises OSError."""
        if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(self._program), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp filter refused by the kernel")


def _assemble(machine: Machine) -> bytes:
    code = bytearray()
    code += _instruction(_LOAD_WORD, _ARCH)
    # Another architecture's numbers mean other calls: no answer but the end is safe.
    code += _instruction(_JUMP_IF_EQUAL, machine.audit_arch, if_true=1)
    code += _instruction(_RETURN, _KILL_PROCESS)
    code += _instruction(_LOAD_WORD, _NUMBER)
    for name, numbers in SYSCALLS.items():
        number = numbers[machine.column]
        if number is not None:
            body = _decision(name)
            code += _instruction(_JUMP_IF_EQUAL, number, if_false=len(body) // 8) + body
    return bytes(code + _instruction(_RETURN, _REFUSE))


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
