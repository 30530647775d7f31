"""Calls: listeners that count, time and trace the calls that one search makes of its parts."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from search import Call, Listener, PathTooLong, PolicyCall, RunnerCall, ScorerCall
from server.engines.errors import EngineClosed, EngineFailed, RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.protocols import EngineName
from server.observability.metrics import EngineErrorKind, Metrics
from server.observability.tracing import span

_ENGINES: dict[type[Call], EngineName] = {PolicyCall: EngineName.POLICY, ScorerCall: EngineName.PPM}
_ERROR_KINDS = {
    EngineClosed: EngineErrorKind.CLOSED,
    EngineFailed: EngineErrorKind.FAILED,
    RemoteUnavailable: EngineErrorKind.UNAVAILABLE,
    RemoteRefused: EngineErrorKind.REFUSED,
    RemoteMismatch: EngineErrorKind.MISMATCH,
}


def measuring(
    metrics: Metrics, *, now: Callable[[], float], on_tokens: Callable[[int], None] = lambda _: None
) -> Listener:
    """A listener that updates the metrics. `on_tokens` gets the number of tokens that each call of the policy made."""

    @asynccontextmanager
    async def measure(call: Call) -> AsyncGenerator[None]:
        engine = _ENGINES.get(type(call))
        began_s = now()
        try:
            yield
        except PathTooLong:
            raise  # a result like any other
        except Exception as error:
            if engine is not None:
                metrics.engine_errors.labels(engine, _kind_of(error)).inc()
            raise
        seconds = now() - began_s
        if engine is not None:
            metrics.engine_calls.labels(engine).observe(seconds)
        if isinstance(call, PolicyCall):
            on_tokens(_tokens(call))
            metrics.tokens.inc(_tokens(call))
        elif isinstance(call, RunnerCall):
            metrics.executions.labels(call.result.outcome).inc()
            metrics.execution_wait.observe(seconds)
            metrics.execution_cpu.observe(call.result.cpu_seconds)

    return measure


@asynccontextmanager
async def tracing(call: Call) -> AsyncGenerator[None]:
    """A listener that records each call as a span: `policy`, `ppm` or `sandbox`."""
    match call:
        case PolicyCall():
            with span("policy", {"rstar.candidates": call.n, "rstar.depth": len(call.path.steps)}) as recorded:
                yield
                recorded.set_attribute("rstar.tokens", _tokens(call))
        case ScorerCall():
            with span("ppm", {"rstar.paths": len(call.paths)}):
                yield
        case RunnerCall():
            with span("sandbox") as recorded:
                yield
                recorded.set_attribute("rstar.outcome", call.result.outcome)
        case _:
            yield


def _tokens(call: PolicyCall) -> int:
    return sum(len(candidate.token_ids) for candidate in call.result)


def _kind_of(error: Exception) -> EngineErrorKind:
    return next((kind for known, kind in _ERROR_KINDS.items() if isinstance(error, known)), EngineErrorKind.OTHER)
