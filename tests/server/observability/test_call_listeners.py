"""Calls: the metrics and the spans of each call of a search."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from search import Budget, Candidate, Parts, Path, PathTooLong, SearchConfig, Strategy, listening, search
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality
from server.engines.errors import (
    EngineClosed,
    EngineError,
    EngineFailed,
    RemoteMismatch,
    RemoteRefused,
    RemoteUnavailable,
)
from server.observability.metrics import Metrics, measuring_calls
from server.observability.tracing import NO_TRACER, request_span, span, tracing_calls
from tests.server.observability.recorded_spans import RecordedSpans, attributes_of, id_of, parent_of
from tests.server.observability.scrape import samples


def _parts() -> Parts:
    return Parts(
        policy=ArithmeticPolicy(),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda _: 0.5),
    )


async def _search(parts: Parts) -> None:
    config = SearchConfig(strategy=Strategy.MCTS, candidates=2, parallel_rollouts=2)
    await search("1+2+3", parts=parts, config=config, budget=Budget(trajectories=4), seed=1, now=lambda: 0.0)


async def test_every_call_of_a_search_is_a_span_below_it() -> None:
    recorded = RecordedSpans()

    async def request() -> None:
        with request_span("POST", "/solve", [], tracer=recorded.tracer), span("search"):
            await _search(listening(_parts(), tracing_calls))

    async with asyncio.TaskGroup() as group:
        group.create_task(request())
    _, searching, *calls = recorded.spans
    assert {call.name for call in calls} == {"policy", "ppm", "sandbox"}
    assert {parent_of(call) for call in calls} == {id_of(searching)}
    first = attributes_of(calls[0])
    assert (first["rstar.candidates"], first["rstar.depth"]) == (2, 0)
    assert {attributes_of(call)["rstar.outcome"] for call in calls if call.name == "sandbox"} >= {"ok"}


@pytest.mark.parametrize("status", ["recorded", "not recorded"])
async def test_tracing_changes_no_result(status: str) -> None:
    async def request() -> Sequence[float]:
        tracer = RecordedSpans().tracer if status == "recorded" else NO_TRACER
        with request_span("POST", "/solve", [], tracer=tracer):
            scorer = listening(_parts(), tracing_calls).scorer
            assert scorer is not None
            return await scorer.score([Path(problem="1+2")])

    async with asyncio.TaskGroup() as group:
        task = group.create_task(request())
    assert task.result() == [0.5]


@dataclass(frozen=True, slots=True)
class RaisingPolicy:
    error: Exception

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        raise self.error


async def _errors_counted(error: Exception) -> dict[str, float]:
    """The counts of engine errors that are above zero, once a policy has raised this one."""
    metrics = Metrics()
    parts = listening(replace(_parts(), policy=RaisingPolicy(error)), measuring_calls(metrics, now=lambda: 0.0))
    with pytest.raises(type(error)):
        await parts.policy.propose(Path(problem="1+2"), 1, seed=0)
    found = samples(metrics.page().decode())
    assert found['rstar_engine_request_duration_seconds_count{engine="policy"}'] == 0
    return {name: value for name, value in found.items() if name.startswith("rstar_engine_errors_total") and value}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineClosed("closed"), "closed"),
        (EngineFailed("died"), "failed"),
        (RemoteUnavailable("nobody answers"), "unavailable"),
        (RemoteRefused("HTTP 404"), "refused"),
        (RemoteMismatch("no vLLM"), "mismatch"),
        (EngineError("something"), "other"),
        (ValueError("a bug"), "other"),
    ],
)
async def test_an_engines_error_is_counted_by_kind(error: Exception, kind: str) -> None:
    assert await _errors_counted(error) == {f'rstar_engine_errors_total{{engine="policy",kind="{kind}"}}': 1}


async def test_a_path_that_is_too_long_is_no_engine_error() -> None:
    assert await _errors_counted(PathTooLong()) == {}


async def test_calls_are_timed_and_tokens_counted() -> None:
    metrics, tokens, clock = Metrics(), list[int](), itertools.count()
    parts = listening(_parts(), measuring_calls(metrics, now=lambda: next(clock) / 100, on_tokens=tokens.append))
    candidates = await parts.policy.propose(Path(problem="1+2"), 3, seed=0)
    await parts.runner.run(None, "total = 1")
    found = samples(metrics.page().decode())
    generated = sum(len(candidate.token_ids) for candidate in candidates)
    assert tokens == [generated]
    assert found["rstar_policy_tokens_total"] == generated
    assert found['rstar_engine_request_duration_seconds_sum{engine="policy"}'] == pytest.approx(0.01)
    assert found['rstar_sandbox_executions_total{outcome="ok"}'] == 1
    assert found["rstar_sandbox_duration_seconds_sum"] == pytest.approx(0.01)
