"""Metrics: what dashboards scrape and budgets are tuned by, in Prometheus's format. Names and meanings live here alone.

Labels take values from closed sets only: never an id, a client or a problem. Totals of the engines and the sandbox are
read when somebody scrapes, everything else is counted when it happens.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from search import (
    Event,
    ExecutionOutcome,
    NodeAdded,
    NodeOutcome,
    SearchResult,
    StopReason,
    Strategy,
    TrajectoryFinished,
)
from server.engines.protocols import EngineName
from server.engines.stats import BATCH_SIZE_BOUNDS, EngineStats
from server.parts import Part, ServingParts
from server.refusals import Kind
from server.version import running_version

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
"""Up to the two hours that vLLM's histograms of whole requests reach: deep thinking takes its time."""
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TRAJECTORIES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
SCORES = (-0.9, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)

REFUSED = "refused"
FAILED = "failed"
CLIENT_LEFT = "client_left"

_AT_THE_DOOR = (Kind.OVERLOADED, Kind.QUOTA_EXCEEDED, Kind.NOT_READY, Kind.STOPPING)
_TYPICAL = (StopReason.BUDGET, StopReason.CONVERGED, StopReason.EXHAUSTED)
"""Ends that say how much thinking a problem takes; the others say how patient the client was."""


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._watch_searches()
        self._watch_trees()
        self._watch_calls()
        self._tell_build()

    def _watch_searches(self) -> None:
        registry = self._registry
        self.requests = Counter(
            "rstar_requests",
            "Requests for a search, by what became of them: the search's stop reason, refused or failed",
            ["endpoint", "strategy", "outcome"],
            registry=registry,
        )
        self.rejections = Counter(
            "rstar_admission_rejections",
            "Searches refused at the door, by kind of refusal",
            ["reason"],
            registry=registry,
        )
        self.duration = Histogram(
            "rstar_request_duration_seconds",
            "From a request's arrival to the end of its search, waiting included",
            ["strategy"],
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "rstar_queue_wait_seconds", "Waiting for a slot", buckets=SECONDS, registry=registry
        )
        self.phases = Histogram(
            "rstar_phase_seconds",
            "Of one search: wall-clock time with at least one call of the kind in flight; kinds overlap",
            ["phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self.first_event = Histogram(
            "rstar_time_to_first_event_seconds",
            "From a request's arrival to the first event of its search",
            buckets=SECONDS,
            registry=registry,
        )
        self.first_candidate = Histogram(
            "rstar_time_to_first_candidate_seconds",
            "From a request's arrival to its first executed candidate",
            buckets=SECONDS,
            registry=registry,
        )
        self.stops = Counter(
            "rstar_early_stops", "Searches that ended before their budget", ["reason"], registry=registry
        )

    def _watch_trees(self) -> None:
        registry = self._registry
        self.rollouts = Counter("rstar_rollouts", "Finished trajectories", registry=registry)
        self.nodes = Counter("rstar_nodes", "Candidates that became nodes, by outcome", ["outcome"], registry=registry)
        self.depth = Histogram(
            "rstar_tree_depth", "Steps of the deepest path of a search", buckets=DEPTHS, registry=registry
        )
        self.scores = Histogram("rstar_ppm_scores", "PPM scores of nodes", buckets=SCORES, registry=registry)
        self.trajectories_used = Histogram(
            "rstar_trajectories_used",
            "Trajectories of a search that ended by itself",
            buckets=TRAJECTORIES,
            registry=registry,
        )
        self.trajectories_to_answer = Histogram(
            "rstar_trajectories_to_final_answer",
            "The trajectory at which the final answer of such a search took the lead for good",
            buckets=TRAJECTORIES,
            registry=registry,
        )
        self.tokens = Counter(
            "rstar_policy_tokens", "Tokens of the candidates that searches received", registry=registry
        )
        self.wasted = Counter(
            "rstar_wasted_tokens",
            "Of these, the tokens of searches whose answer nobody got: the clients had left, or the search failed",
            ["reason"],
            registry=registry,
        )

    def _watch_calls(self) -> None:
        registry = self._registry
        self.engine_calls = Histogram(
            "rstar_engine_request_duration_seconds",
            "One call of a search to an engine, batching and waiting included",
            ["engine"],
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self.engine_errors = Counter(
            "rstar_engine_errors", "Calls that an engine broke off", ["engine"], registry=registry
        )
        self.executions = Counter(
            "rstar_sandbox_executions", "Code steps run, by outcome", ["outcome"], registry=registry
        )
        self.execution_wait = Histogram(
            "rstar_sandbox_duration_seconds",
            "One code step, waiting for a worker included",
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self.execution_cpu = Histogram(
            "rstar_sandbox_cpu_seconds", "Processor time of one code step", buckets=SHORT_SECONDS, registry=registry
        )
        for outcome in ExecutionOutcome:
            self.executions.labels(outcome)
        for outcome in NodeOutcome:
            self.nodes.labels(outcome)
        for reason in (CLIENT_LEFT, FAILED):
            self.wasted.labels(reason)
        for name in EngineName:
            self.engine_errors.labels(name)
            self.engine_calls.labels(name)

    def follow(self, *, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Export the length of the queue."""
        gauges = (
            ("rstar_requests_in_flight", "Searches that hold a slot", running),
            ("rstar_queue_depth", "Searches that wait for a slot", waiting),
        )
        for name, meaning, value in gauges:
            Gauge(name, meaning, registry=self._registry).set_function(value)

    def read_parts(self, parts: Callable[[], ServingParts | None], states: Callable[[], dict[Part, bool]]) -> None:
        """Export what the parts say of themselves, whenever they are open."""
        self._registry.register(_PartsCollector(parts, states))

    def _tell_build(self) -> None:
        build = Gauge(
            "rstar_build_info", "Always 1; the labels say what is running", ["version"], registry=self._registry
        )
        build.labels(running_version()).set(1)

    def page(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def refused(self, kind: Kind, *, endpoint: str, strategy: Strategy) -> None:
        """A search was refused at the door, or in the queue."""
        if kind in _AT_THE_DOOR:
            self.rejections.labels(kind.value.name).inc()
        self.requests.labels(endpoint, strategy, REFUSED).inc()

    def failed(self, *, endpoint: str, strategy: Strategy, tokens: int) -> None:
        """A part of the server failed during a search that had received so many tokens."""
        self.requests.labels(endpoint, strategy, FAILED).inc()
        self.wasted.labels(FAILED).inc(tokens)

    def ended(self, result: SearchResult, *, endpoint: str, strategy: Strategy, seconds: float) -> None:
        """A search has given its result."""
        self.requests.labels(endpoint, strategy, result.stop_reason).inc()
        self.duration.labels(strategy).observe(seconds)
        if result.stop_reason is not StopReason.BUDGET:
            self.stops.labels(result.stop_reason).inc()
        if not result.tree.root.children:
            return  # it never began, or was cut off before anything was there to measure
        for phase in ("policy", "sandbox", "ppm"):
            self.phases.labels(phase).observe(getattr(result.phase_seconds, phase))
        self.depth.observe(max(node.depth for node in result.tree.nodes))
        if result.stop_reason not in _TYPICAL:
            return
        self.trajectories_used.observe(result.usage.trajectories)
        if result.trajectories_to_answer is not None:
            self.trajectories_to_answer.observe(result.trajectories_to_answer)

    def event(self, event: Event) -> None:
        """Count one event of any search."""
        match event:
            case NodeAdded():
                self.nodes.labels(event.outcome).inc()
                if event.score is not None:
                    self.scores.observe(event.score)
            case TrajectoryFinished():
                self.rollouts.inc()
            case _:
                pass


class _PartsCollector:
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
        sizes.add_metric([engine], _buckets(stats), stats.batch_size_sum)
    yield sizes


def _buckets(stats: EngineStats) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has it."""
    bounds = [*(str(float(bound)) for bound in BATCH_SIZE_BOUNDS), "+Inf"]
    below = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, stats.batch_size_counts, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets


def _sandbox_metrics(parts: ServingParts) -> Iterator[Metric]:
    status = parts.sandbox_status()
    if status is None:
        return
    level = GaugeMetricFamily("rstar_sandbox_level", "1 for the level of confinement in force", labels=["level"])
    level.add_metric([status.level], 1)
    yield level
    counters = status.counters
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
