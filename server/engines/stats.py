"""Engine statistics: what an exporter reads. Written by one thread alone, read through snapshots."""

import asyncio
from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

BATCH_SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Powers of two up to the largest useful batch: one bucket per doubling of the throughput curve."""


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """Totals since the engine was made, and how full it is."""

    requests: int = 0
    """Calls accepted."""
    aborted: int = 0
    """Calls whose caller left before the end."""
    forward_passes: int = 0
    """Runs of the model, over path tokens or over a decoding batch."""
    tokens_generated: int = 0
    """Tokens sampled, those of aborted calls included."""
    tokens_aborted: int = 0
    """Of these, those known to be of aborted calls; vLLM and remote servers do not tell."""
    tokens_encoded: int = 0
    """Path tokens run through the model."""
    tokens_reused: int = 0
    """Path tokens whose keys and values were already held."""
    batch_size_counts: list[int] = field(default_factory=lambda: [0] * (len(BATCH_SIZE_BOUNDS) + 1))
    """Batches per bucket of `BATCH_SIZE_BOUNDS` (upper bounds, inclusive), the last one unbounded."""
    batch_size_sum: int = 0
    """Sum of the batch sizes: sequences of a decoding step, paths of a scoring batch."""
    running: int = 0
    """Sequences or paths in the batch now."""
    waiting: int = 0
    """Sequences or paths that wait for a place in it."""
    in_flight: int = 0
    """Calls that were accepted and not answered."""

    @contextmanager
    def calling(self) -> Generator[None]:
        """Around one call: counts it, and whether its caller left before the end."""
        self.requests += 1
        self.in_flight += 1
        try:
            yield
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1

    def observe_batch(self, size: int) -> None:
        """Count one batch of `size`."""
        self.batch_size_counts[bisect_left(BATCH_SIZE_BOUNDS, size)] += 1
        self.batch_size_sum += size

    def snapshot(self) -> "EngineStats":
        """A copy, which changes no more."""
        return replace(self, batch_size_counts=list(self.batch_size_counts))


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
        batch_size_counts=[sum(counts) for counts in zip(*(part.batch_size_counts for part in parts), strict=True)],
        batch_size_sum=sum(part.batch_size_sum for part in parts),
        running=sum(part.running for part in parts),
        waiting=sum(part.waiting for part in parts),
        in_flight=sum(part.in_flight for part in parts),
    )
