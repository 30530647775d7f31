"""The table of system calls against libseccomp's, where that is installed."""

import ctypes
import ctypes.util

import pytest

from sandbox.libc import MACHINES, SETUP_CALLS
from sandbox.seccomp import ARGUMENT_RULES, SYSCALLS, UNKNOWN_CALLS

LIBRARY = ctypes.util.find_library("seccomp")


@pytest.mark.skipif(LIBRARY is None, reason="libseccomp is not installed")
@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_libseccomp(machine: str) -> None:
    library = ctypes.CDLL(LIBRARY)
    architecture, column = MACHINES[machine]
    for name, numbers in (*SYSCALLS.items(), *SETUP_CALLS.items(), *UNKNOWN_CALLS.items()):
        known = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(architecture), name.encode())
        # Negative: libseccomp's way of saying that the machine has no such call.
        assert (known if known >= 0 else None) == numbers[column], name


def test_every_argument_rule_is_for_a_call_that_is_allowed() -> None:
    assert ARGUMENT_RULES.keys() <= SYSCALLS.keys()
