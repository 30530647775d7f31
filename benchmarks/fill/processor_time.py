"""Processor time: divides the CPU time of the process tree among the parts. Reads clocks and /proc.

The event loop's thread is the search, the server's other Python, and the work of calling the parts. On the torch engine
all other threads belong to the engines; their time is divided in proportion to the wall times of the engines' steps. On
vLLM each engine has processes of its own, and so has the answer checker. The sandbox is the rest of the total. The
total is the kernel's own count.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.engines.torch.loop import ComputeThread, EngineLoop

KINDS = ("policy", "ppm", "sandbox", "search", "answers")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Core-seconds by kind, and in all."""

    kinds: Mapping[str, float]
    total: float
    machine: float
    """Core-seconds of all processes on this machine."""

    @property
    def others(self) -> float:
        """Core-seconds that other processes used."""
        return max(0.0, self.machine - self.total)

    def since(self, before: "Spent") -> "Spent":
        """The difference of two readings."""
        return Spent(
            kinds={kind: max(0.0, seconds - before.kinds[kind]) for kind, seconds in self.kinds.items()},
            total=self.total - before.total,
            machine=self.machine - before.machine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """A clock that must be read on the event loop's thread."""

    meter: Clock
    policy: Clock
    ppm: Clock
    answers: Clock

    def read(self) -> Spent:
        """The time spent since the beginning."""
        known = {"policy": self.policy(), "ppm": self.ppm(), "search": time.thread_time(), "answers": self.answers()}
        total = self.meter()
        kinds = {**known, "sandbox": total - sum(known.values())}
        return Spent(kinds={kind: kinds[kind] for kind in KINDS}, total=total, machine=_machine_s())


def _machine_s() -> float:
    """Busy and stolen time of all cores, since the start."""
    user, nice, system, _, _, *interrupts_and_stolen = (
        int(field) for field in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts_and_stolen)) / _TICKS_PER_S


def clock_of(processes: Callable[[], Iterable[int]]) -> Clock:
    """The CPU time of processes that stay alive."""
    return lambda: sum(map(_seconds_of, processes()))


def _seconds_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has ended meanwhile
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


class TimedComputeThread(ComputeThread):
    """A compute thread that also measures how long it steps its loops."""

    def __init__(self, *, threads: int) -> None:
        super().__init__(threads=threads)
        self.stepped_s = 0.0
        """Wall time."""

    def step(self, loop: EngineLoop[Any]) -> None:
        """See `ComputeThread`."""
        began_s = time.perf_counter()
        super().step(loop)
        self.stepped_s += time.perf_counter() - began_s


def shares(policy: Sequence[ComputeThread], ppm: Sequence[ComputeThread]) -> tuple[Clock, Clock]:
    """The core-seconds of all threads except the event loop's, divided between the two engines."""
    division = _Division(policy, ppm)
    return lambda: division.read()[0], lambda: division.read()[1]


class _Division:
    """Divides the time spent since its last reading, so that no reading is below an earlier one."""

    def __init__(self, *engines: Sequence[ComputeThread]) -> None:
        self._engines = engines
        self._spent_s = [0.0] * len(engines)
        self._seen_s = 0.0
        self._seen_stepped_s = [0.0] * len(engines)

    def read(self) -> Sequence[float]:
        """Core-seconds of each engine."""
        now_s = time.process_time() - time.thread_time()
        stepped_s = [sum(map(_stepped_s, threads)) for threads in self._engines]
        news_s = [now - seen for now, seen in zip(stepped_s, self._seen_stepped_s, strict=True)]
        if sum(news_s) > 0:
            each = (now_s - self._seen_s) / sum(news_s)
            self._spent_s = [spent + each * new for spent, new in zip(self._spent_s, news_s, strict=True)]
            self._seen_s, self._seen_stepped_s = now_s, stepped_s
        return self._spent_s


def _stepped_s(thread: ComputeThread) -> float:
    return thread.stepped_s if isinstance(thread, TimedComputeThread) else 0.0
