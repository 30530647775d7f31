"""Probe: tries, from inside a confined process, what no step may do, and tells what happened.

The report rests on what the kernel did, not on what it was asked for.
"""

import os
import resource
import socket
from collections.abc import Callable

MANDATORY = ("processes", "network", "signals", "file writing", "limits")
"""Without these no step runs."""


def probe() -> dict[str, str | None]:
    """For each protection None where it holds, else what is wrong; to be called in a confined step process."""
    return {
        "processes": _refused(_make_process),
        "network": _refused(_open_socket),
        "signals": _refused(lambda: os.kill(os.getppid(), 0)),
        "file writing": _refused(lambda: os.close(os.open("/dev/null", os.O_WRONLY))),
        "limits": None if resource.getrlimit(resource.RLIMIT_FSIZE) == (0, 0) else "resource limits are not in force",
        "file reading": _refused(lambda: os.close(os.open("/etc/passwd", os.O_RDONLY))),
        "service user": None if os.getuid() != 0 else "steps run as uid 0",
        "imports": None if os.path.isfile(os.__file__) and _can_read(os.__file__) else "standard library unreadable",
    }


def _refused(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except OSError:
        return None
    return "an attempt succeeded"


def _make_process() -> None:
    if os.fork() == 0:
        os._exit(0)


def _open_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def _can_read(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True
