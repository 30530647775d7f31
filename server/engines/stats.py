"""Engine counters: what an exporter reads. Written by one thread alone, read through snapshots."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

BATCH_SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Powers of two up to the largest useful batch: one bucket per doubling of the throughput curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Totals since the engine was made, and how full it is."""

    requests: int
    """Calls accepted."""
    aborted: int
    """Calls whose caller left before the end."""
    forward_passes: int
    """Runs of the model, over path tokens or over a decoding batch."""
    tokens_generated: int
    """Tokens sampled, those of aborted calls included."""
    tokens_aborted: int
    """Of these, those known to be of aborted calls; vLLM and remote servers do not tell."""
    tokens_encoded: int
    """Path tokens run through the model."""
    tokens_reused: int
    """Path tokens whose keys and values were already held."""
    batch_size_counts: tuple[int, ...]
    """Batches per bucket of `BATCH_SIZE_BOUNDS` (upper bounds, inclusive), the last one unbounded."""
    batch_size_sum: int
    """Sum of the batch sizes: sequences of a decoding step, paths of a scoring batch."""
    running: int
    """Sequences or paths in the batch now."""
    waiting: int
    """Sequences or paths that wait for a place in it."""


@dataclass(slots=True)
class EngineCounters:
    """The running totals behind `EngineStats`."""

    requests: int = 0
    aborted: int = 0
    forward_passes: int = 0
    tokens_generated: int = 0
    tokens_aborted: int = 0
    tokens_encoded: int = 0
    tokens_reused: int = 0
    batch_size_counts: list[int] = field(default_factory=lambda: [0] * (len(BATCH_SIZE_BOUNDS) + 1))
    batch_size_sum: int = 0
    running: int = 0
    waiting: int = 0

    def observe_batch(self, size: int) -> None:
        """Count one batch of `size`."""
        self.batch_size_counts[bisect_left(BATCH_SIZE_BOUNDS, size)] += 1
        self.batch_size_sum += size

    def snapshot(self) -> EngineStats:
        return EngineStats(
            requests=self.requests,
            aborted=self.aborted,
            forward_passes=self.forward_passes,
            tokens_generated=self.tokens_generated,
            tokens_aborted=self.tokens_aborted,
            tokens_encoded=self.tokens_encoded,
            tokens_reused=self.tokens_reused,
            batch_size_counts=tuple(self.batch_size_counts),
            batch_size_sum=self.batch_size_sum,
            running=self.running,
            waiting=self.waiting,
        )


def total(parts: Sequence[EngineStats]) -> EngineStats:
    """Of an engine that counts in several places."""
    return EngineStats(
        requests=sum(part.requests for part in parts),
        aborted=sum(part.aborted for part in parts),
        forward_passes=sum(part.forward_passes for part in parts),
        tokens_generated=sum(part.tokens_generated for part in parts),
        tokens_aborted=sum(part.tokens_aborted for part in parts),
        tokens_encoded=sum(part.tokens_encoded for part in parts),
        tokens_reused=sum(part.tokens_reused for part in parts),
        batch_size_counts=tuple(map(sum, zip(*(part.batch_size_counts for part in parts), strict=True))),
        batch_size_sum=sum(part.batch_size_sum for part in parts),
        running=sum(part.running for part in parts),
        waiting=sum(part.waiting for part in parts),
    )
