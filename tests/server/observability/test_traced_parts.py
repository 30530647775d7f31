"""Traced parts: a span for each call of a search, and the parts themselves where nobody records."""

import asyncio

from search import Budget, Parts, SearchConfig, Strategy, search
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality
from server.observability.traced_parts import traced
from server.observability.tracing import request_span, span
from tests.server.observability.recorded_spans import RecordedSpans, attributes_of, id_of, parent_of


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
            await _search(traced(_parts()))

    async with asyncio.TaskGroup() as group:
        group.create_task(request())
    _, searching, *calls = recorded.spans
    assert {call.name for call in calls} == {"policy", "ppm", "sandbox"}
    assert {parent_of(call) for call in calls} == {id_of(searching)}
    first = attributes_of(calls[0])
    assert (first["rstar.candidates"], first["rstar.depth"]) == (2, 0)
    assert {attributes_of(call)["rstar.outcome"] for call in calls if call.name == "sandbox"} >= {"ok"}


async def test_parts_that_nobody_records_stay_as_they_are() -> None:
    parts = _parts()
    assert traced(parts) is parts
