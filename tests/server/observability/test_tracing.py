"""Tracing: whose trace a task works for, what engines are told, and which spans a recorder gets."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

import httpx
import pytest

from server.app import create_app
from server.engines.remote.client import RemoteAddress, RemoteClient
from server.http.asgi import Message, Receive, Send
from server.http.request_ids import RequestIds
from server.observability.tracing import Recorder, Traces, current_trace_id, is_recorded, outgoing_headers, span
from server.parts.fakes import serve
from server.settings.settings import Settings
from tests.server.engines.remote.stub_server import Answer, stub_server
from tests.server.observability.list_recorder import ListRecorder

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def _ask(
    inner: Callable[[], Awaitable[None]],
    *,
    headers: Mapping[str, str] | None = None,
    path: str = "/solve",
    recorder: Recorder | None = None,
) -> None:
    """One request through the layers, in a task of its own, as servers run it."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await inner()
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert message["type"] == "http.response.start"

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope: Message = {"type": "http", "method": "POST", "path": path, "headers": raw}
    async with asyncio.TaskGroup() as group:
        group.create_task(RequestIds(Traces(app, recorder))(scope, receive, send))


async def test_the_clients_context_and_id_go_on_to_the_engines_from_every_task_of_the_request() -> None:
    told: list[dict[str, str]] = []

    async def inner() -> None:
        async def work() -> None:
            told.append(outgoing_headers())

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(work())

    await _ask(inner, headers={"traceparent": PARENT, "tracestate": "a=b", "x-request-id": "mine"})
    first, second = told
    assert (first["traceparent"], first["tracestate"]) == (PARENT, "a=b")
    assert re.fullmatch(r"mine-[0-9a-f]{8}", first["x-request-id"])
    assert first["x-request-id"] != second["x-request-id"]


@pytest.mark.parametrize("parent", ["", "nonsense", PARENT.upper()])
async def test_without_a_valid_context_a_trace_begins(parent: str) -> None:
    told: list[dict[str, str]] = []

    async def inner() -> None:
        told.append(outgoing_headers())
        assert current_trace_id() == told[0]["traceparent"].split("-")[1]

    await _ask(inner, headers={"traceparent": parent, "tracestate": "a=b"})
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", told[0]["traceparent"])
    assert TRACE not in told[0]["traceparent"]
    assert "tracestate" not in told[0]


async def test_outside_a_request_nothing_is_sent_along() -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_outside())
    assert task.result() == ({}, None, False)


async def _outside() -> tuple[dict[str, str], str | None, bool]:
    with span("nothing", depth=1) as nothing:
        nothing.set(tokens=1)
    return outgoing_headers(), current_trace_id(), is_recorded()


async def test_spans_nest_and_engines_are_told_the_innermost() -> None:
    recorder, told = ListRecorder(), list[str]()

    async def inner() -> None:
        with span("search", strategy="mcts") as searching:
            with span("policy"):
                told.append(outgoing_headers()["traceparent"])
            with span("ppm"):
                pass
            searching.set(trajectories=3)

    await _ask(inner, headers={"traceparent": PARENT, "x-request-id": "mine"}, recorder=recorder)
    request, search, policy, ppm = recorder.spans
    assert recorder.names == ["POST", "search", "policy", "ppm"]
    assert request.parent is not None
    assert request.parent.traceparent == PARENT
    assert [request.is_request, search.is_request] == [True, False]
    assert [search.parent, policy.parent, ppm.parent] == [request.context, search.context, search.context]
    assert search.attributes == {"rstar.strategy": "mcts", "rstar.trajectories": 3}
    assert told == [policy.context.traceparent]
    assert all(taken.errors == [None] for taken in recorder.spans)
    assert request.attributes["rstar.request_id"] == "mine"
    assert request.attributes["http.response.status_code"] == 204


async def test_a_span_that_an_exception_ends_says_so_and_lets_it_pass() -> None:
    recorder = ListRecorder()

    async def inner() -> None:
        with span("policy"):
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await _ask(inner, recorder=recorder)
    assert [type(taken.errors[0]) for taken in recorder.spans] == [ZeroDivisionError, ZeroDivisionError]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/metrics"])
async def test_probes_are_not_recorded(path: str) -> None:
    recorder = ListRecorder()

    async def inner() -> None:
        assert not is_recorded()

    await _ask(inner, path=path, recorder=recorder)
    assert recorder.spans == []


async def test_a_request_is_recorded_under_its_route() -> None:
    recorder = ListRecorder()
    async with serve() as served:
        app = create_app(served.solver, Settings(), recorder=recorder)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fake") as client:
            await client.post("/solve/some-search/cancel")
            await client.get("/nothing")
    assert recorder.names == ["POST /solve/{search_id}/cancel", "GET"]
    assert recorder.spans[0].attributes["http.route"] == "/solve/{search_id}/cancel"
    assert [taken.attributes["http.response.status_code"] for taken in recorder.spans] == [404, 404]


async def test_a_call_to_a_remote_engine_carries_trace_and_request_id() -> None:
    async with stub_server() as stub:
        stub.script["/x"] = [Answer(status=503, content={}), Answer(content={"a": 1})]
        address = RemoteAddress(url=stub.url, api_key="secret", headers=outgoing_headers)

        async def no_sleep(_: float) -> None:
            pass

        async def inner() -> None:
            async with RemoteClient(address, sleep=no_sleep) as client:
                await client.post("/x", {})

        await _ask(inner, headers={"traceparent": PARENT, "x-request-id": "mine"})
    assert [asked.headers["traceparent"] for asked in stub.asked] == [PARENT, PARENT]
    assert {asked.headers["authorization"] for asked in stub.asked} == {"Bearer secret"}
    ids = [asked.headers["x-request-id"] for asked in stub.asked]
    assert len(set(ids)) == 2
    assert all(request_id.startswith("mine-") for request_id in ids)
    assert "headers" not in repr(address)
