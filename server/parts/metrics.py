"""Metrics of the parts: reads the counters of engines, sandbox and answer checker at each scrape. Counts nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sandbox import WAIT_BOUNDS_S, Status
from server.engines.protocols import BATCH_SIZE_BOUNDS, EngineName, EngineStats
from server.parts.serving import Part, ServingParts

_Total = CounterMetricFamily
_Level = GaugeMetricFamily

_ENGINE_METRICS: tuple[tuple[type[_Total | _Level], str, str, Callable[[EngineStats], int]], ...] = (
    (_Total, "rstar_engine_requests", "Calls accepted", lambda stats: stats.requests),
    (_Total, "rstar_engine_aborted_requests", "Calls whose caller left before the end", lambda stats: stats.aborted),
    (_Total, "rstar_engine_forward_passes", "Runs of the model", lambda stats: stats.forward_passes),
    (
        _Total,
        "rstar_engine_generated_tokens",
        "Tokens sampled, those of aborted calls included",
        lambda stats: stats.tokens_generated,
    ),
    (
        _Total,
        "rstar_engine_aborted_tokens",
        "Of these, tokens of calls that were cut off, as far as the engine tells",
        lambda stats: stats.tokens_aborted,
    ),
    (_Total, "rstar_engine_encoded_tokens", "Path tokens run through the model", lambda stats: stats.tokens_encoded),
    (
        _Total,
        "rstar_engine_reused_tokens",
        "Path tokens whose keys and values were held already",
        lambda stats: stats.tokens_reused,
    ),
    (_Level, "rstar_engine_running", "Sequences or paths in the batch", lambda stats: stats.running),
    (
        _Level,
        "rstar_engine_waiting",
        "Sequences or paths that wait for a place in the batch",
        lambda stats: stats.waiting,
    ),
)


class PartsCollector:
    """The metrics of the parts, once they are open, and whether each works."""

    def __init__(self, parts: Callable[[], ServingParts | None], states: Callable[[], Mapping[Part, bool]]) -> None:
        self._parts = parts
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        up = _Level("rstar_part_up", "1 while the part works", labels=["part"])
        for part, works in self._states().items():
            up.add_metric([part], float(works))
        yield up
        parts = self._parts()
        if parts is None:
            return
        yield from _engine_metrics(parts.engine_stats())
        status = parts.sandbox_status()
        if status is not None:
            yield from _sandbox_metrics(status)
        yield _Total(
            "rstar_equality_restarts",
            "Processes of the answer checker that were replaced, also after a comparison that took too long",
            value=parts.equality_restarts(),
        )


def _engine_metrics(engines: Mapping[EngineName, EngineStats]) -> Iterator[Metric]:
    for family, name, meaning, read in _ENGINE_METRICS:
        metric = family(name, meaning, labels=["engine"])
        for engine, stats in engines.items():
            metric.add_metric([engine], read(stats))
        yield metric
    sizes = HistogramMetricFamily("rstar_engine_batch_size", "Sequences or paths of one run", labels=["engine"])
    for engine, stats in engines.items():
        sizes.add_metric([engine], _buckets(BATCH_SIZE_BOUNDS, stats.batch_size_counts), stats.batch_size_sum)
    yield sizes


def _sandbox_metrics(status: Status) -> Iterator[Metric]:
    level = _Level("rstar_sandbox_level", "1 for the level of confinement in force", labels=["level"])
    level.add_metric([status.level], 1)
    yield level
    workers = _Level("rstar_sandbox_workers", "Workers that run a code step, and others", labels=["state"])
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
    for family, name, meaning, value in (
        (_Level, "rstar_sandbox_snapshots", "Live interpreter snapshots", status.live_snapshots),
        (_Level, "rstar_sandbox_snapshot_bytes", "Memory of the live snapshots", status.live_bytes),
        (_Level, "rstar_sandbox_trees", "Searches with live snapshots", status.live_trees),
        (_Level, "rstar_sandbox_queue_depth", "Code steps that wait for a worker", status.queue_depth),
        (_Total, "rstar_sandbox_snapshot_hits", "Steps whose parent's snapshot was alive", counters.hits),
        (_Total, "rstar_sandbox_snapshot_misses", "Steps whose parent had to be run again", counters.misses),
        (_Total, "rstar_sandbox_replayed_steps", "Earlier steps run again", counters.replayed_steps),
        (_Total, "rstar_sandbox_evictions", "Live snapshots given up for others", counters.evictions),
        (_Total, "rstar_sandbox_violations", "Attempts to cheat the sandbox's own protocol", counters.violations),
        (
            _Total,
            "rstar_sandbox_restarts",
            "Restarts of the process that snapshots come from",
            counters.zygote_restarts,
        ),
    ):
        yield family(name, meaning, value=value)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has it; the last count is of values above all bounds."""
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))
