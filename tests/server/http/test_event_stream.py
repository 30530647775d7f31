"""The event stream: order, headers, heartbeat, and what a failing or departing party does to it."""

import asyncio
import json
from contextlib import aclosing

import pytest

from search import SearchConfig
from server.http.event_stream import stream_frames
from server.http.problem_json import problem_details
from server.http.schemas import ProblemDetails, SolveResponse
from server.http.wire import HEARTBEAT, ServerEvent, read_frames
from server.parts.fakes import GatedPolicy, fake_parts, opening, serve
from server.settings.settings import Settings
from server.solving.orders import Order
from server.solving.refusals import Refusal
from tests.server.http.asgi_call import AsgiCall

PROBLEM = "3+4+5"
ORDER = Order(problem=PROBLEM, config=SearchConfig(), trajectories=2, timeout_s=60.0, seed=0)


def _events(text: str) -> list[ServerEvent]:
    return list(read_frames(text.split("\n")))


def _describe(refusal: Refusal) -> ProblemDetails:
    return problem_details(refusal, request_id="r1", instance="/solve")


async def test_a_stream_tells_the_search_in_order_and_ends_with_the_response() -> None:
    body = {"problem": PROBLEM, "trajectories": 6, "stream": True}
    async with serve() as served:
        response = await served.client.post("/solve", json=body)
        plain = (await served.client.post("/solve", json={**body, "stream": False})).json()
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-store"
    assert response.headers["x-accel-buffering"] == "no"
    events = _events(response.text)
    names = [event.name for event in events]
    assert names[0] == "search_started"
    assert names[-1] == "done"
    assert set(names[1:-1]) == {"node", "trajectory", "answer_changed"}
    assert names.index("node") < names.index("trajectory") < names.index("answer_changed")
    done = events[-1].payload
    assert [done[name] for name in ("answer", "steps", "answers")] == [
        plain[name] for name in ("answer", "steps", "answers")
    ]
    SolveResponse.model_validate_json(json.dumps(done))
    last_news = [event.payload for event in events if event.name == "answer_changed"][-1]
    assert (last_news["answer"], last_news["confidence"]) == (done["answer"], done["confidence"])
    assert events[0].payload == {"id": done["id"], "strategy": "mcts", "trajectories": 6, "cached_trajectories": 0}


async def test_a_request_that_is_refused_gets_a_status_and_no_stream() -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "stream": True, "trajectories": 0})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


async def test_a_search_that_fails_ends_the_stream_with_one_error_event() -> None:
    headers = {"x-request-id": "r7"}
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": "x", "stream": True}, headers=headers)
    events = _events(response.text)
    assert [event.name for event in events] == ["search_started", "error"]
    assert (events[-1].payload["status"], events[-1].payload["request_id"]) == (500, "r7")


async def test_a_silent_search_gives_a_heartbeat() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(ORDER, search_id="s1")
        watch = running.watch(events=True)
        async with aclosing(stream_frames(watch, describe=_describe, heartbeat_s=0.01)) as frames:
            assert await anext(frames) == HEARTBEAT
            assert (await anext(frames)).startswith(b"event: search_started")
            assert await anext(frames) == HEARTBEAT
            policy.gate.set()
            rest = b"".join([chunk async for chunk in frames]).decode()
    assert _events(rest)[-1].name == "done"


async def test_the_operator_says_how_often_a_silent_stream_gives_a_heartbeat() -> None:
    policy = GatedPolicy()
    settings = Settings(heartbeat_s=0.01)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        call = AsgiCall(served, {"problem": PROBLEM, "stream": True})
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await call.has_sent(4 * [HEARTBEAT])
            policy.gate.set()
    assert b"event: done" in call.body


async def test_a_client_that_never_reads_costs_events_but_not_the_answer() -> None:
    order = Order(problem="1+2+3+4+5", config=SearchConfig(), trajectories=200, timeout_s=60.0, seed=0)
    async with serve() as served, asyncio.timeout(20):
        running = served.solver.start(order, search_id="s1")
        watch = running.watch(events=True)
        await running.ending()
        assert watch.progress is not None
        assert watch.progress.dropped > 0
        stream = [chunk async for chunk in stream_frames(watch, describe=_describe, heartbeat_s=60.0)]
    assert len(stream) <= 258
    assert _events(b"".join(stream).decode())[-1].name == "done"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_search(*, stream: bool) -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        call = AsgiCall(served, {"problem": PROBLEM, "stream": stream})
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await policy.entered.wait()
            call.leave()
        policy.gate.set()
        after = await served.client.post("/solve", json={"problem": PROBLEM})
    assert (policy.waiting, policy.cancelled) == (0, 1)
    assert after.status_code == 200


async def test_one_client_leaving_leaves_the_others_alone() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        leaving = AsgiCall(served, {"problem": PROBLEM})
        async with asyncio.TaskGroup() as group:
            staying = group.create_task(served.client.post("/solve", json={"problem": "1+1"}))
            await policy.entered.wait()
            policy.entered.clear()
            group.create_task(leaving.run())
            await policy.entered.wait()
            leaving.leave()
            await policy.left.wait()
            policy.gate.set()
    assert staying.result().status_code == 200


async def test_a_client_that_leaves_before_its_body_is_read_disturbs_nobody() -> None:
    async with serve() as served, asyncio.timeout(10):
        call = AsgiCall(served, None)
        call.leave()
        await call.run()
        after = await served.client.post("/solve", json={"problem": PROBLEM})
    assert after.status_code == 200
