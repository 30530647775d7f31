"""The torch runtime: threads, precision and memory that the policy and the PPM of one process share."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from server.engines.torch.loop import ComputeThread
from server.engines.torch.model import Precision
from server.engines.torch.openmp import default_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRuntime:
    """Pass the same one to both engines."""

    compute: ComputeThread = field(default_factory=ComputeThread)
    """The PPM's, and the policy's where there are no lanes."""
    lanes: tuple[ComputeThread, ...] = ()
    """Threads of the policy, each with a batch of its own, so that none waits for another."""
    precision: Precision = Precision.FLOAT32
    prefix_cache_bytes: int = 256 << 20
    """Per engine; reuse takes a quarter off the computing of a search. At 4 kB a token (4 layers, 2 key-value heads)
    this holds 65,000 tokens: some 1,500 steps of running searches."""

    @property
    def policy_threads(self) -> tuple[ComputeThread, ...]:
        """One for each batch of the policy."""
        return self.lanes or (self.compute,)


_MOST_LANES = 2
"""Each lane reads all weights at every step, and the Python part of a step runs in one lane at a time."""


def serving_runtime(new_thread: Callable[[int], ComputeThread] | None = None) -> TorchRuntime:
    """Runtime of a server that has the cores to itself: two lanes with half the cores each, and a thread for the PPM.

    A step of small models is many small operations, most of which no second thread can share. On two cores, two lanes
    of one thread took 0.64 to 0.77 of the time that one batch on two threads took, from 32 to 256 sequences.
    """
    lanes = min(_MOST_LANES, len(os.sched_getaffinity(0)))
    new_thread = new_thread or (lambda threads: ComputeThread(threads=threads))
    threads = max(1, default_threads() // lanes)
    return TorchRuntime(compute=new_thread(threads), lanes=tuple(new_thread(threads) for _ in range(lanes)))
