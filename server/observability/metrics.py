"""Metrics: what dashboards scrape and budgets are tuned by, in Prometheus's format.

Names and meanings live here and in `server.observability.part_metrics`. Labels take values from closed sets, never an
id, a client or a problem. What is here is counted when it happens.
"""

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
from server.observability.part_metrics import PartsCollector
from server.observability.version import running_version
from server.parts.serving import Part, ServingParts
from server.solving.refusals import Kind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
"""Up to the two hours that vLLM's histograms of whole requests reach: deep thinking takes its time."""
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TRAJECTORIES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
SCORES = (-0.9, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)

REFUSED = "refused"
FAILED = "failed"
CLIENT_LEFT = "client_left"

_AT_THE_DOOR = (Kind.OVERLOADED, Kind.QUOTA_EXCEEDED, Kind.NOT_READY, Kind.STOPPING)
_TYPICAL = (StopReason.BUDGET, StopReason.CONVERGED, StopReason.EXHAUSTED)
"""Ends that say how much thinking a problem takes; the others say how patient the client was."""


class EngineErrorKind(StrEnum):
    """Why an engine broke off a call."""

    CLOSED = "closed"
    """It was closed before, or meanwhile."""
    FAILED = "failed"
    """It, or its process, broke."""
    UNAVAILABLE = "unavailable"
    """Its server elsewhere cannot be reached, is overloaded or broken."""
    REFUSED = "refused"
    """That server takes the request for wrong, or not allowed."""
    MISMATCH = "mismatch"
    """That server answers otherwise than one with this model does."""
    OTHER = "other"


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
            "Searches that the limits, the queue or a stop of the server kept from beginning, by kind of refusal",
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
        self.rollouts_per_request = Histogram(
            "rstar_rollouts_per_request",
            "Trajectories of a search that got as far as a candidate, however it ended",
            buckets=TRAJECTORIES,
            registry=registry,
        )
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
            "rstar_engine_errors", "Calls that an engine broke off, by reason", ["engine", "kind"], registry=registry
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
            for kind in EngineErrorKind:
                self.engine_errors.labels(name, kind)
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
        self._registry.register(PartsCollector(parts, states))

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
        self.rollouts_per_request.observe(result.usage.trajectories)
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
