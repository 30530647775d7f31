"""Metrics: the counters, gauges and histograms of one server, in Prometheus's format.

This module declares the metrics that are counted as events happen. `server.parts.metrics` reads the counters that the
parts keep themselves. Labels take values from closed sets, never an id, a client or a problem.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from search import (
    Call,
    Event,
    ExecutionOutcome,
    Listener,
    NodeAdded,
    NodeOutcome,
    PathTooLong,
    PolicyCall,
    RunnerCall,
    ScorerCall,
    SearchResult,
    StopReason,
    Strategy,
    TrajectoryFinished,
)
from server.engines.errors import EngineClosed, EngineFailed, RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.protocols import EngineName
from server.observability.version import running_version

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
"""Up to about two hours, like vLLM's histograms of whole requests."""
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TRAJECTORIES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
SCORES = (-0.9, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)

REFUSED = "refused"
FAILED = "failed"
CLIENT_LEFT = "client_left"
READ = "read"
WRITTEN = "written"

_ADMISSION_REFUSALS = frozenset({"overloaded", "quota-exceeded", "not-ready", "stopping"})
"""The kinds of refusal that keep a valid search from beginning."""
_TYPICAL = (StopReason.BUDGET, StopReason.CONVERGED, StopReason.EXHAUSTED)
"""These ends show how many trajectories a problem takes. The other ends show how patient the client was."""


class EngineErrorKind(StrEnum):
    """Why a call to an engine failed."""

    CLOSED = "closed"
    """The engine was closed before the call or during it."""
    FAILED = "failed"
    """The engine or its process failed."""
    UNAVAILABLE = "unavailable"
    """The remote server cannot be reached, is overloaded or has failed."""
    REFUSED = "refused"
    """The remote server says that the request is wrong or not allowed."""
    MISMATCH = "mismatch"
    """The remote server does not answer as a server with this model does."""
    OTHER = "other"
    """Any other exception."""


class CacheOutcome(StrEnum):
    """What the tree cache did for a request that was answered or searched."""

    HIT = "hit"
    """The stored tree answered it, without a search."""
    RESUMED = "resumed"
    """A search went on from the stored tree."""
    MISS = "miss"
    """There was no tree."""
    REFRESHED = "refreshed"
    """The client wanted a new tree."""
    BYPASSED = "bypassed"
    """The client wanted no cache, or the operator."""


class CacheError(StrEnum):
    """Why the tree cache did not do what it should."""

    BAD_VALUE = "bad_value"
    """A stored value cannot be read; the request is a miss."""
    NOT_STORABLE = "not_storable"
    """A tree is too large to be stored."""
    UNAVAILABLE = "unavailable"
    """The store cannot be reached or refuses to work; the request does without it."""
    LEASE_LOST = "lease_lost"
    """Another search took the tree over; this one ended."""


class Metrics:
    """The metrics of one server. Its attributes are the metrics, declared in groups."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._declare_searches()
        self._declare_trees()
        self._declare_calls()
        self._declare_cache()
        build = self._gauge("rstar_build_info", "Always 1; the labels say what is running", "version")
        build.labels(running_version()).set(1)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self._registry)

    def _declare_searches(self) -> None:
        self.requests = self._counter(
            "rstar_requests",
            "Requests for a search, by what became of them: the search's stop reason, refused or failed",
            *("endpoint", "strategy", "outcome"),
        )
        self.rejections = self._counter(
            "rstar_admission_rejections",
            "Searches that the limits, the queue or a stop of the server kept from beginning, by kind of refusal",
            "reason",
        )
        self.duration = self._histogram(
            "rstar_request_duration_seconds",
            "From a request's arrival to the end of its search, waiting included",
            "strategy",
            buckets=SECONDS,
        )
        self.queue_wait = self._histogram("rstar_queue_wait_seconds", "Waiting for a slot", buckets=SECONDS)
        self.phases = self._histogram(
            "rstar_phase_seconds",
            "Of one search: wall-clock time with at least one call of the kind in flight; kinds overlap",
            "phase",
            buckets=SECONDS,
        )
        self.first_event = self._histogram(
            "rstar_time_to_first_event_seconds",
            "From a request's arrival to the first event of its search",
            buckets=SECONDS,
        )
        self.first_candidate = self._histogram(
            "rstar_time_to_first_candidate_seconds",
            "From a request's arrival to its first executed candidate",
            buckets=SECONDS,
        )
        self.stops = self._counter("rstar_early_stops", "Searches that ended before their budget", "reason")
        self.running = self._gauge("rstar_requests_in_flight", "Searches that hold a slot")
        self.waiting = self._gauge("rstar_queue_depth", "Searches that wait for a slot")

    def _declare_trees(self) -> None:
        self.rollouts = self._counter("rstar_rollouts", "Finished trajectories")
        self.nodes = self._counter("rstar_nodes", "Candidates that became nodes, by outcome", "outcome")
        self.depth = self._histogram("rstar_tree_depth", "Steps of the deepest path of a search", buckets=DEPTHS)
        self.scores = self._histogram("rstar_ppm_scores", "PPM scores of nodes", buckets=SCORES)
        self.rollouts_per_request = self._histogram(
            "rstar_rollouts_per_request",
            "Trajectories of a search that got as far as a candidate, however it ended",
            buckets=TRAJECTORIES,
        )
        self.trajectories_used = self._histogram(
            "rstar_trajectories_used", "Trajectories of a search that ended by itself", buckets=TRAJECTORIES
        )
        self.trajectories_to_answer = self._histogram(
            "rstar_trajectories_to_final_answer",
            "The trajectory at which the final answer of such a search took the lead for good",
            buckets=TRAJECTORIES,
        )
        self.tokens = self._counter("rstar_policy_tokens", "Tokens of the candidates that searches received")
        self.wasted = self._counter(
            "rstar_wasted_tokens",
            "Of these, the tokens of searches whose answer nobody got: the clients had left, or the search failed",
            "reason",
        )
        _start_at_zero(self.nodes, NodeOutcome)
        _start_at_zero(self.wasted, (CLIENT_LEFT, FAILED))

    def _declare_calls(self) -> None:
        self.engine_calls = self._histogram(
            "rstar_engine_request_duration_seconds",
            "One call of a search to an engine, batching and waiting included",
            "engine",
            buckets=SHORT_SECONDS,
        )
        self.engine_errors = self._counter(
            "rstar_engine_errors", "Calls that an engine broke off, by reason", "engine", "kind"
        )
        self.executions = self._counter("rstar_sandbox_executions", "Code steps run, by outcome", "outcome")
        self.execution_wait = self._histogram(
            "rstar_sandbox_duration_seconds", "One code step, waiting for a worker included", buckets=SHORT_SECONDS
        )
        self.execution_cpu = self._histogram(
            "rstar_sandbox_cpu_seconds", "Processor time of one code step", buckets=SHORT_SECONDS
        )
        _start_at_zero(self.engine_calls, EngineName)
        _start_at_zero(self.engine_errors, EngineName, EngineErrorKind)
        _start_at_zero(self.executions, ExecutionOutcome)

    def _declare_cache(self) -> None:
        self.cache_requests = self._counter(
            "rstar_cache_requests", "Requests, by what the tree cache did for them", "result"
        )
        self.cache_waits = self._counter(
            "rstar_cache_lease_waits", "Times that a request waited for another search of the same tree"
        )
        self.cache_takeovers = self._counter(
            "rstar_cache_takeovers", "Trees taken over from a process that died or was held up"
        )
        self.cache_errors = self._counter("rstar_cache_errors", "Failures of the tree cache, by kind", "kind")
        self.cache_bytes = self._counter(
            "rstar_cache_bytes", "Bytes of trees read from the store, and written to it", "direction"
        )
        _start_at_zero(self.cache_requests, CacheOutcome)
        _start_at_zero(self.cache_errors, CacheError)
        _start_at_zero(self.cache_bytes, (READ, WRITTEN))

    def follow(self, *, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read the length of the queue at each scrape."""
        self.running.set_function(running)
        self.waiting.set_function(waiting)

    def read(self, collector: Collector) -> None:
        """Export also what a collector reads at each scrape."""
        self._registry.register(collector)

    def page(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def refused(self, kind: str, *, endpoint: str, strategy: Strategy) -> None:
        """A search was refused, before or in the queue."""
        if kind in _ADMISSION_REFUSALS:
            self.rejections.labels(kind).inc()
        self.requests.labels(endpoint, strategy, REFUSED).inc()

    def failed(self, *, endpoint: str, strategy: Strategy, tokens: int) -> None:
        """A part of the server failed during a search that had received `tokens` tokens."""
        self.requests.labels(endpoint, strategy, FAILED).inc()
        self.wasted.labels(FAILED).inc(tokens)

    def ended(self, result: SearchResult, *, endpoint: str, strategy: Strategy, seconds: float) -> None:
        """A search has given its result."""
        self.requests.labels(endpoint, strategy, result.stop_reason).inc()
        self.duration.labels(strategy).observe(seconds)
        if result.usage.trajectories == result.usage.cached_trajectories > 0:
            return  # answered from the cache, so it says nothing about searches
        if result.stop_reason is not StopReason.BUDGET:
            self.stops.labels(result.stop_reason).inc()
        if not result.tree.root.children:
            return  # it was cancelled in the queue, or before its first candidate
        for phase in ("policy", "sandbox", "ppm"):
            self.phases.labels(phase).observe(getattr(result.phase_seconds, phase))
        self.depth.observe(max(node.depth for node in result.tree.nodes))
        self.rollouts_per_request.observe(result.usage.trajectories)
        if result.stop_reason not in _TYPICAL:
            return
        self.trajectories_used.observe(result.usage.trajectories)
        if result.trajectories_to_answer is not None:
            self.trajectories_to_answer.observe(result.trajectories_to_answer)

    def event(self, event: Event) -> None:
        """Count one event of any search."""
        if isinstance(event, NodeAdded):
            self.nodes.labels(event.outcome).inc()
            if event.score is not None:
                self.scores.observe(event.score)
        elif isinstance(event, TrajectoryFinished):
            self.rollouts.inc()


def _start_at_zero(metric: Counter | Histogram, *labels: Iterable[str]) -> None:
    """Export every combination of these label values from the start, so that rates see the first event."""
    for values in product(*labels):
        metric.labels(*values)


_ENGINES: dict[type[Call], EngineName] = {PolicyCall: EngineName.POLICY, ScorerCall: EngineName.PPM}
_ERROR_KINDS = {
    EngineClosed: EngineErrorKind.CLOSED,
    EngineFailed: EngineErrorKind.FAILED,
    RemoteUnavailable: EngineErrorKind.UNAVAILABLE,
    RemoteRefused: EngineErrorKind.REFUSED,
    RemoteMismatch: EngineErrorKind.MISMATCH,
}


def measuring_calls(
    metrics: Metrics, *, now: Callable[[], float], on_tokens: Callable[[int], None] = lambda _: None
) -> Listener:
    """A listener that updates the metrics. `on_tokens` gets the number of tokens that each call of the policy made."""
    return lambda call: _MeasuredCall(metrics, call, now, on_tokens)


@dataclass(slots=True)
class _MeasuredCall:
    """A call that is timed and counted. All calls pass through here, and a generator would take twice as long."""

    metrics: Metrics
    call: Call
    now: Callable[[], float]
    on_tokens: Callable[[int], None]
    began_s: float = 0.0

    async def __aenter__(self) -> None:
        self.began_s = self.now()

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        engine = _ENGINES.get(type(self.call))
        if error is None:
            self._count(engine, seconds=self.now() - self.began_s)
        elif engine is not None and isinstance(error, Exception) and not isinstance(error, PathTooLong):
            self.metrics.engine_errors.labels(engine, _kind_of(error)).inc()

    def _count(self, engine: EngineName | None, *, seconds: float) -> None:
        call, metrics = self.call, self.metrics
        if engine is not None:
            metrics.engine_calls.labels(engine).observe(seconds)
        if isinstance(call, PolicyCall):
            tokens = sum(len(candidate.token_ids) for candidate in call.result)
            self.on_tokens(tokens)
            metrics.tokens.inc(tokens)
        elif isinstance(call, RunnerCall):
            metrics.executions.labels(call.result.outcome).inc()
            metrics.execution_wait.observe(seconds)
            metrics.execution_cpu.observe(call.result.cpu_seconds)


def _kind_of(error: Exception) -> EngineErrorKind:
    return next((kind for known, kind in _ERROR_KINDS.items() if isinstance(error, known)), EngineErrorKind.OTHER)
