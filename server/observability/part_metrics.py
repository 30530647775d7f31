"""Part metrics: what engines, sandbox and answer checker say of themselves at a scrape. Counts nothing itself."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sandbox import WAIT_BOUNDS_S
from server.engines.stats import BATCH_SIZE_BOUNDS, EngineStats
from server.parts.serving import Part, ServingParts


class PartsCollector:
    """Reads the parts' own counters at the moment of the scrape."""

    def __init__(self, parts: Callable[[], ServingParts | None], states: Callable[[], dict[Part, bool]]) -> None:
        self._parts = parts
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client calls it."""
        up = GaugeMetricFamily("rstar_part_up", "1 while the part works", labels=["part"])
        for part, works in self._states().items():
            up.add_metric([part], float(works))
        yield up
        parts = self._parts()
        if parts is not None:
            yield from _engine_metrics(parts)
            yield from _sandbox_metrics(parts)
            yield CounterMetricFamily(
                "rstar_equality_restarts",
                "Processes of the answer checker that were replaced, also after a comparison that took too long",
                value=parts.equality_restarts(),
            )


_ENGINE_TOTALS: tuple[tuple[str, str, Callable[[EngineStats], int]], ...] = (
    ("rstar_engine_requests", "Calls accepted", lambda stats: stats.requests),
    ("rstar_engine_aborted_requests", "Calls whose caller left before the end", lambda stats: stats.aborted),
    ("rstar_engine_forward_passes", "Runs of the model", lambda stats: stats.forward_passes),
    (
        "rstar_engine_generated_tokens",
        "Tokens sampled, those of aborted calls included",
        lambda stats: stats.tokens_generated,
    ),
    (
        "rstar_engine_aborted_tokens",
        "Of these, tokens of calls that were cut off, as far as the engine tells",
        lambda stats: stats.tokens_aborted,
    ),
    ("rstar_engine_encoded_tokens", "Path tokens run through the model", lambda stats: stats.tokens_encoded),
    (
        "rstar_engine_reused_tokens",
        "Path tokens whose keys and values were held already",
        lambda stats: stats.tokens_reused,
    ),
)
_ENGINE_LEVELS: tuple[tuple[str, str, Callable[[EngineStats], int]], ...] = (
    ("rstar_engine_running", "Sequences or paths in the batch", lambda stats: stats.running),
    ("rstar_engine_waiting", "Sequences or paths that wait for a place in the batch", lambda stats: stats.waiting),
)


def _engine_metrics(parts: ServingParts) -> Iterator[Metric]:
    engines = parts.engine_stats()
    for name, meaning, read in _ENGINE_TOTALS:
        total = CounterMetricFamily(name, meaning, labels=["engine"])
        for engine, stats in engines.items():
            total.add_metric([engine], read(stats))
        yield total
    for name, meaning, read in _ENGINE_LEVELS:
        level = GaugeMetricFamily(name, meaning, labels=["engine"])
        for engine, stats in engines.items():
            level.add_metric([engine], read(stats))
        yield level
    sizes = HistogramMetricFamily("rstar_engine_batch_size", "Sequences or paths of one run", labels=["engine"])
    for engine, stats in engines.items():
        sizes.add_metric([engine], _buckets(BATCH_SIZE_BOUNDS, stats.batch_size_counts), stats.batch_size_sum)
    yield sizes


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has it; the last count is of what is above all bounds."""
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _sandbox_metrics(parts: ServingParts) -> Iterator[Metric]:
    status = parts.sandbox_status()
    if status is None:
        return
    level = GaugeMetricFamily("rstar_sandbox_level", "1 for the level of confinement in force", labels=["level"])
    level.add_metric([status.level], 1)
    yield level
    workers = GaugeMetricFamily("rstar_sandbox_workers", "Workers that run a code step, and others", labels=["state"])
    workers.add_metric(["busy"], status.busy_workers)
    workers.add_metric(["idle"], status.idle_workers)
    yield workers
    counters = status.counters
    yield HistogramMetricFamily(
        "rstar_sandbox_queue_wait_seconds",
        "A code step's wait for a worker",
        buckets=_buckets(WAIT_BOUNDS_S, counters.waits),
        sum_value=counters.waited_s,
    )
    for name, meaning, value in (
        ("rstar_sandbox_snapshots", "Live interpreter snapshots", status.live_snapshots),
        ("rstar_sandbox_snapshot_bytes", "Memory of the live snapshots", status.live_bytes),
        ("rstar_sandbox_trees", "Searches with live snapshots", status.live_trees),
        ("rstar_sandbox_queue_depth", "Code steps that wait for a worker", status.queue_depth),
    ):
        yield GaugeMetricFamily(name, meaning, value=value)
    for name, meaning, value in (
        ("rstar_sandbox_snapshot_hits", "Steps whose parent's snapshot was alive", counters.hits),
        ("rstar_sandbox_snapshot_misses", "Steps whose parent had to be run again", counters.misses),
        ("rstar_sandbox_replayed_steps", "Earlier steps run again", counters.replayed_steps),
        ("rstar_sandbox_evictions", "Live snapshots given up for others", counters.evictions),
        ("rstar_sandbox_violations", "Attempts to cheat the sandbox's own protocol", counters.violations),
        ("rstar_sandbox_restarts", "Restarts of the process that snapshots come from", counters.zygote_restarts),
    ):
        yield CounterMetricFamily(name, meaning, value=value)
