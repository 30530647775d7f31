"""Landlock: has the kernel hide every file but the interpreter's own from the calling process and its children.

Optional: kernels before 5.13 and some containers have none.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

# The numbers are the same on every architecture.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_QUERY_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE = 1 << 2
_READ_DIRECTORY = 1 << 3


def restrict_reading(libc: ctypes.CDLL, paths: Iterable[str]) -> None:
    """Leave only `paths` (and what is below them) readable and nothing writable; needs no_new_privs. Raises OSError."""
    version = _checked(libc.syscall(_CREATE_RULESET, None, 0, _QUERY_VERSION))
    attributes = struct.pack("<Q", _handled(version))
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for path in paths:
            _allow(libc, ruleset, path)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _handled(version: int) -> int:
    """Every kind of access that this version can forbid: an unhandled kind stays allowed."""
    bits = 13
    bits += version >= 2  # link and rename across directories
    bits += version >= 3  # truncate
    bits += 1 if version >= 5 else 0  # ioctl on devices
    return (1 << bits) - 1


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        access = _READ_FILE | (_READ_DIRECTORY if os.path.isdir(path) else 0)
        rule = struct.pack("<Qi", access, target)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(target)


def _checked(returned: int) -> int:
    if returned < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return returned
