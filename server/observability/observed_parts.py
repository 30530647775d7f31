"""Observed parts: the parts of one search with every call timed and counted for the metrics. Changes no result."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from search import Candidate, CodeRunner, Execution, Parts, Path, PathTooLong, Policy, Snapshot, StepScorer
from server.engines.errors import EngineClosed, EngineFailed
from server.engines.protocols import EngineName
from server.engines.remote.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.observability.metrics import EngineErrorKind, Metrics

_KINDS = {
    EngineClosed: EngineErrorKind.CLOSED,
    EngineFailed: EngineErrorKind.FAILED,
    RemoteUnavailable: EngineErrorKind.UNAVAILABLE,
    RemoteRefused: EngineErrorKind.REFUSED,
    RemoteMismatch: EngineErrorKind.MISMATCH,
}


def observed(
    parts: Parts, metrics: Metrics, *, now: Callable[[], float], on_tokens: Callable[[int], None] = lambda _: None
) -> Parts:
    """The same parts, observed; `on_tokens` hears how many tokens of candidates this search has received."""
    observer = _Observer(metrics, now, on_tokens)
    return replace(
        parts,
        policy=_ObservedPolicy(parts.policy, observer),
        runner=_ObservedRunner(parts.runner, observer),
        scorer=None if parts.scorer is None else _ObservedScorer(parts.scorer, observer),
    )


@dataclass(frozen=True, slots=True)
class _Observer:
    metrics: Metrics
    now: Callable[[], float]
    on_tokens: Callable[[int], None]

    @contextmanager
    def engine_call(self, name: EngineName) -> Generator[None]:
        began_s = self.now()
        try:
            yield
        except PathTooLong:
            raise  # an answer of the engine like any other
        except Exception as error:
            self.metrics.engine_errors.labels(name, _kind_of(error)).inc()
            raise
        self.metrics.engine_calls.labels(name).observe(self.now() - began_s)


@dataclass(frozen=True, slots=True)
class _ObservedPolicy:
    policy: Policy
    observer: _Observer

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        with self.observer.engine_call(EngineName.POLICY):
            candidates = await self.policy.propose(path, n, seed=seed)
        tokens = sum(len(candidate.token_ids) for candidate in candidates)
        self.observer.on_tokens(tokens)
        self.observer.metrics.tokens.inc(tokens)
        return candidates


@dataclass(frozen=True, slots=True)
class _ObservedScorer:
    scorer: StepScorer
    observer: _Observer

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        with self.observer.engine_call(EngineName.PPM):
            return await self.scorer.score(paths)


@dataclass(frozen=True, slots=True)
class _ObservedRunner:
    runner: CodeRunner
    observer: _Observer

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        began_s = self.observer.now()
        execution = await self.runner.run(parent, code)
        metrics = self.observer.metrics
        metrics.executions.labels(execution.outcome).inc()
        metrics.execution_wait.observe(self.observer.now() - began_s)
        metrics.execution_cpu.observe(execution.cpu_seconds)
        return execution


def _kind_of(error: Exception) -> EngineErrorKind:
    return next((kind for known, kind in _KINDS.items() if isinstance(error, known)), EngineErrorKind.OTHER)
