"""Landlock: has the kernel hide every file but the listed ones from the calling process and its children.

Also forbids TCP and signals to processes outside, where the kernel's version can. Optional: kernels before 5.13 and
some containers have none.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

from sandbox.libc import Libc

_QUERY_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE = 1 << 2
_READ_DIRECTORY = 1 << 3

_VERSION_WITH_TCP = 4
_VERSION_WITH_SCOPES = 6


class Ruleset:
    """Rules ready to be put on a process. Made once, by the zygote; each tree takes them as its only layer."""

    def __init__(self, libc: Libc, readable: Iterable[str]) -> None:
        """Only `readable` (and what is below) may be read, nothing written. Raises OSError without Landlock."""
        self._libc = libc
        self.version = libc.call("landlock_create_ruleset", None, ctypes.c_size_t(0), _QUERY_VERSION)
        attributes = _attributes(self.version)
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
            access = _READ_FILE | (_READ_DIRECTORY if os.path.isdir(path) else 0)
            rule = struct.pack("<Qi", access, target)
            self._libc.call("landlock_add_rule", self._descriptor, _PATH_BENEATH, rule, 0)
        finally:
            os.close(target)


def _attributes(version: int) -> bytes:
    """struct landlock_ruleset_attr: every kind of access this version can forbid; an unhandled kind stays allowed."""
    bits = 13
    bits += version >= 2  # link and rename across directories
    bits += version >= 3  # truncate
    bits += version >= 5  # ioctl on devices
    attributes = struct.pack("<Q", (1 << bits) - 1)
    if version >= _VERSION_WITH_TCP:
        attributes += struct.pack("<Q", 0b11)
    if version >= _VERSION_WITH_SCOPES:
        attributes += struct.pack("<Q", 0b11)
    return attributes
