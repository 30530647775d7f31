"""The tracing layer: each request becomes a span under its route."""

import httpx

from server.app import create_app
from server.parts.fakes import serve
from server.settings.settings import Settings
from tests.server.observability.recorded_spans import RecordedSpans, attributes_of, id_of, parent_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_request_is_recorded_under_its_route() -> None:
    recorded = RecordedSpans()
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
    async with serve() as served:
        app = create_app(served.solver, Settings(), tracer=recorded.tracer)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fake") as client:
            await client.post("/solve/some-search/cancel", headers=headers)
            await client.get("/nothing")
            await client.get("/healthz")
    cancel, nothing = recorded.spans
    assert recorded.names == ["POST /solve/{search_id}/cancel", "GET"]
    assert cancel.parent is not None
    assert (cancel.kind.name, f"{cancel.parent.trace_id:032x}") == ("SERVER", TRACE)
    assert attributes_of(cancel) == {
        "http.request.method": "POST",
        "url.path": "/solve/some-search/cancel",
        "http.route": "/solve/{search_id}/cancel",
        "http.response.status_code": 404,
        "rstar.request_id": "mine",
    }
    assert attributes_of(nothing)["http.response.status_code"] == 404


async def test_a_search_is_recorded_below_its_request() -> None:
    recorded = RecordedSpans()
    async with serve() as served:
        app = create_app(served.solver, Settings(), tracer=recorded.tracer)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fake") as client:
            body = (await client.post("/solve", json={"problem": "1+2+3", "trajectories": 4})).json()
    request, queue, search, *calls = recorded.spans
    assert (request.name, queue.name, search.name) == ("POST /solve", "queue", "search")
    assert [parent_of(queue), parent_of(search)] == [id_of(request), id_of(request)]
    assert {parent_of(call) for call in calls} == {id_of(search)}
    assert {call.name for call in calls} == {"policy", "ppm", "sandbox"}
    assert attributes_of(search) == {
        "rstar.strategy": "mcts",
        "rstar.stop_reason": body["stop_reason"],
        "rstar.trajectories": body["usage"]["trajectories"],
    }
