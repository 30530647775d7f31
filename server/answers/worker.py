"""Worker: the process that compares answers. `python -m server.answers.worker PARENT_PID TIMEOUT_S MEMORY_MB`.

Writes `ready` once the algebra system is loaded. Then reads one JSON object {"a": …, "b": …} a line and writes the
verdict on a line. Ends when its input ends or its parent dies. It limits its memory and the processor time of each
comparison, and writes no files. No comparison leaves anything behind for the next one.
"""

import ctypes
import json
import os
import resource
import signal
import sys

from search import Verdict
from server.answers.comparison import compare

_PR_SET_PDEATHSIG = 1
_WARM_UP = (("x+x", "x*x"), ("sqrt(x+x)", "sin x"))
"""Comparisons that pay for sympy's lazy imports and caches before the first real one."""


def main(parent_pid: int, timeout_s: float, memory_mb: int) -> None:
    """Serves comparisons until the input ends."""
    _die_with(parent_pid)
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a library prints must not be taken for a verdict.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for a, b in _WARM_UP:
        compare(a, b)
    memory = memory_mb * 1024 * 1024
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
    print("ready", file=replies, flush=True)
    for line in requests:
        _allow_processor_time(timeout_s)
        request = json.loads(line)
        print(_verdict(request["a"], request["b"]), file=replies, flush=True)


def _verdict(a: str, b: str) -> Verdict:
    try:
        return compare(a, b)
    except MemoryError:
        raise  # nothing here can be trusted any more: the process ends and is replaced
    except Exception:  # noqa: BLE001 - sympy raises any type; every failure to compare means "could not check"
        return Verdict.UNKNOWN


def _die_with(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent dies; the end of input covers what this misses."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")


def _allow_processor_time(seconds: float) -> None:
    """Allows more from now on: the limit counts for the whole life of the process, so it is raised each time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + 2 * seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
