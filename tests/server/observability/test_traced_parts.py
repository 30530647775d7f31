"""Traced parts: a span for each call of a search, and the parts themselves where nobody records."""

import asyncio

from search import Budget, Parts, SearchConfig, Strategy, search
from search.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality
from server.http.asgi import Message, Receive, Send
from server.observability.traced_parts import traced
from server.observability.tracing import Traces, span
from tests.server.observability.list_recorder import ListRecorder


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


async def test_every_call_of_a_search_is_a_span_below_the_search() -> None:
    recorder = ListRecorder()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        with span("search"):
            await _search(traced(_parts()))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope: Message = {"type": "http", "method": "POST", "path": "/solve", "headers": []}
    async with asyncio.TaskGroup() as group:
        group.create_task(Traces(app, recorder)(scope, receive, send))
    request, searching, *calls = recorder.spans
    assert [request.name, searching.name] == ["POST", "search"]
    assert {call.name for call in calls} == {"policy", "ppm", "sandbox"}
    assert {call.parent for call in calls} == {searching.context}
    assert all(len(call.errors) == 1 for call in calls)
    first = calls[0]
    assert (first.attributes["rstar.candidates"], first.attributes["rstar.depth"]) == (2, 0)
    assert {call.attributes["rstar.outcome"] for call in calls if call.name == "sandbox"} >= {"ok"}


async def test_where_nobody_records_the_parts_stay_as_they_are() -> None:
    parts = _parts()
    assert traced(parts) is parts
