"""Processor time: whose it is, part by part. Reads clocks and /proc; the total is the kernel's own count.

The event loop's thread is the search, the server's other Python and the work of asking the parts. On the torch engine
all other threads are the engines', and are divided as the wall times of their steps are; on vLLM each engine has
processes of its own. The answer checker has its own too. What is left of the total is the sandbox.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.engines.compute import ComputeThread, Workload
from server.engines.errors import EngineError

KINDS = ("policy", "ppm", "sandbox", "search", "answers")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Core-seconds by kind, and in all."""

    kinds: Mapping[str, float]
    total: float
    machine: float
    """Of everybody on this machine."""

    @property
    def others(self) -> float:
        """Core-seconds that were not ours to have."""
        return max(0.0, self.machine - self.total)

    def since(self, before: "Spent") -> "Spent":
        """Between two readings."""
        return Spent(
            kinds={kind: max(0.0, seconds - before.kinds[kind]) for kind, seconds in self.kinds.items()},
            total=self.total - before.total,
            machine=self.machine - before.machine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """To be read on the event loop's thread."""

    meter: Clock
    policy: Clock
    ppm: Clock
    answers: Clock

    def read(self) -> Spent:
        """Since the beginning."""
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
    """Of processes that live on."""
    return lambda: sum(map(_seconds_of, processes()))


def _seconds_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0  # gone meanwhile
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


class TimedComputeThread(ComputeThread):
    """Also knows for how long it stepped its workloads, of which it may have one."""

    def __init__(self, *, threads: int) -> None:
        super().__init__(threads=threads)
        self._timed: _Timed | None = None

    @property
    def stepped_s(self) -> float:
        """Wall time."""
        return 0.0 if self._timed is None else self._timed.stepped_s

    def attach(self, workload: Workload) -> None:
        """See `ComputeThread`."""
        assert self._timed is None
        self._timed = _Timed(workload)
        super().attach(self._timed)

    async def detach(self, workload: Workload) -> None:
        """See `ComputeThread`."""
        assert self._timed is not None
        await super().detach(self._timed)


def shares(policy: Sequence[ComputeThread], ppm: Sequence[ComputeThread]) -> tuple[Clock, Clock]:
    """The core-seconds of all threads but the event loop's, divided between the two engines."""

    def stepped_s(threads: Sequence[ComputeThread]) -> float:
        return sum(thread.stepped_s for thread in threads if isinstance(thread, TimedComputeThread))

    def share_of(threads: Sequence[ComputeThread]) -> float:
        both_s = stepped_s(policy) + stepped_s(ppm)
        return (time.process_time() - time.thread_time()) * stepped_s(threads) / both_s if both_s else 0.0

    return lambda: share_of(policy), lambda: share_of(ppm)


class _Timed:
    """A workload whose steps are timed."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.stepped_s = 0.0

    def has_work(self) -> bool:
        return self.workload.has_work()

    def step(self) -> None:
        began_s = time.perf_counter()
        try:
            self.workload.step()
        finally:
            self.stepped_s += time.perf_counter() - began_s

    def refuse(self, error: EngineError) -> None:
        self.workload.refuse(error)
