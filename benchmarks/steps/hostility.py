"""Hostility: hostile steps for the soak: few, of every class, each with its allowed outcomes."""

from dataclasses import dataclass

from sandbox import Outcome

MARK = "rstar-soak"
"""Part of the name of every file that a step tries to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One attack."""

    code: str
    outcomes: frozenset[Outcome]


def _hostile(code: str, *outcomes: Outcome) -> Hostile:
    return Hostile(code=code, outcomes=frozenset(outcomes))


_FILES = f"""
import os
for folder in ("/tmp", "/dev/shm", "/var/tmp", ".", os.path.dirname(os.__file__)):
    try:
        os.open(folder + "/{MARK}-planted", os.O_CREAT | os.O_WRONLY)
    except OSError:
        continue
    print("planted in", folder)
raise ValueError("nothing planted")
"""

_FORKS = """
import os
for _ in range(200):
    try:
        os.fork() or os._exit(0)
    except OSError:
        pass
"""

_HELD_OPEN = """
import os
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    print(len(held) > 10)
"""

_FORGED = "import os\nos.write(3, b'D' + b'\\xff' * 40)\nos._exit(0)"
_FLOOD = "while True:\n    try:\n        print('x' * 1000)\n    except Exception:\n        pass"
_BOMB = "held = []\nwhile True:\n    held.append(bytearray(b'x') * (8 << 20))"
_LOOP = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
_RECURSION = "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()"
_AT_FORK = "import os\nos.register_at_fork(before=lambda: os._exit(0))"
_TIMER = "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)"
_SOCKET = "import socket\nsocket.socket()"
_KILL = "import os\nos.kill(1, 9)"

ATTACKS = (
    _hostile(_FILES, Outcome.ERROR),
    _hostile(_FORKS, Outcome.OK),
    _hostile(_HELD_OPEN, Outcome.OK),
    _hostile(_FORGED, Outcome.VIOLATION),
    _hostile(_FLOOD, Outcome.OUTPUT_LIMIT),
    _hostile(_BOMB, Outcome.MEMORY),
    _hostile(_LOOP, Outcome.TIMEOUT_CPU, Outcome.TIMEOUT_WALL),
    _hostile(_AT_FORK, Outcome.OK),
    _hostile(_TIMER, Outcome.OK),
    _hostile(_SOCKET, Outcome.ERROR),
    _hostile(_KILL, Outcome.ERROR),
    _hostile("import ctypes\nctypes.string_at(0)", Outcome.CRASHED),
    _hostile("import os\nos._exit(0)", Outcome.CRASHED),
    _hostile("import os\nos.closerange(0, 64)", Outcome.CRASHED, Outcome.VIOLATION),
    _hostile(_RECURSION, Outcome.CRASHED, Outcome.MEMORY, Outcome.TIMEOUT_CPU),
    _hostile("import time\ntime.sleep(600)", Outcome.TIMEOUT_WALL),
)
