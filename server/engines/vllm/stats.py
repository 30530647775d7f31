# pyright: basic, reportMissingImports=false
"""vLLM's numbers as our counters: a stat logger of our own for each engine. Imports vLLM.

vLLM's own loggers share one registry, from which a second engine in the process removes the first one's series.
"""

from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import SchedulerStats

from server.engines.stats import EngineCounters


def stat_logger(counters: EngineCounters) -> type[PrometheusStatLogger]:
    """A logger class that adds up into `counters`, on the event loop's thread.

    It poses as vLLM's Prometheus logger and does nothing of what that does: only then is no real one added beside it.
    """

    class CountingLogger(PrometheusStatLogger):
        def __init__(self, vllm_config: object, engine_indexes: list[int] | None = None) -> None:
            pass

        def record(self, scheduler_stats: SchedulerStats | None, *_: object, **__: object) -> None:
            if scheduler_stats is not None:
                add(counters, scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, *_: object, **__: object) -> None:
            pass

        def record_admission_rejection(self, reason: str) -> None:
            pass

    return CountingLogger


def add(counters: EngineCounters, stats: SchedulerStats) -> None:
    """Count one pass of the engine. Prompts give a token each as soon as they are read, so both kinds of row count."""
    counters.running = stats.num_running_reqs
    counters.waiting = stats.num_waiting_reqs + stats.num_skipped_waiting_reqs
    prefixes = stats.prefix_cache_stats
    counters.tokens_reused += prefixes.hits
    counters.tokens_encoded += prefixes.queries - prefixes.hits
    details = stats.iteration_details
    if details is not None and not details.is_dummy:
        rows = details.num_ctx_requests + details.num_generation_requests
        counters.forward_passes += 1
        counters.observe_batch(rows)
        counters.tokens_generated += rows
