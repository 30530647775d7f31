"""Streams: frames, order, headers and heartbeat, with failing searches and clients that leave."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest
from fastapi import Request

from search import StopReason
from server.http.responses import json_bytes
from server.http.schemas import SolveResponse
from server.http.streams import HEARTBEAT, ServerEvent, SolveFrames, frame, read_frames, stream_frames
from server.parts.fakes import FAKE_MODELS, GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from server.solving.searches import FinishedSearch, RunningSearch, nothing_found
from server.trees.entries import Fingerprint
from tests.server.http.asgi_call import AsgiCall
from tests.server.serving import a_request, serve

PROBLEM = "3+4+5"
REQUEST = Request({"type": "http", "path": "/solve", "headers": [], "state": {"request_id": "r1"}})


def _events(text: str) -> list[ServerEvent]:
    return list(read_frames(text.split("\n")))


def test_events_survive_the_way_out_and_back_in() -> None:
    events = [
        ServerEvent("node", {"text": "".join(map(chr, range(0x3000))), "score": None}),
        ServerEvent("done", {"answer": "½ × π", "confidence": 0.25}),
    ]
    frames = [frame(event.name, json_bytes(event.payload)) for event in events]
    stream = HEARTBEAT + HEARTBEAT.join(frames)
    assert _events(stream.decode()) == events
    assert list(read_frames(stream.decode().splitlines())) == events


def test_a_frame_is_an_event_line_a_data_line_and_an_empty_one() -> None:
    assert frame("node", json_bytes({"text": "a\nb"})) == b'event: node\ndata: {"text": "a\\nb"}\n\n'


async def test_a_stream_has_the_events_in_order_then_the_response() -> None:
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


async def test_a_refused_request_gets_a_status_and_no_stream() -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "stream": True, "trajectories": 0})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


async def test_a_failing_search_ends_the_stream_with_one_error_event() -> None:
    headers = {"x-request-id": "r7"}
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": "x", "stream": True}, headers=headers)
    events = _events(response.text)
    assert [event.name for event in events] == ["search_started", "error"]
    assert (events[-1].payload["status"], events[-1].payload["request_id"]) == (500, "r7")


async def test_a_response_that_cannot_be_made_is_an_error_event() -> None:
    running = RunningSearch("s1", a_request(PROBLEM), "ann", arrived_s=0.0)
    watcher = running.watch(events=True)
    running.finish(
        FinishedSearch(
            search_id="s1",
            request=running.request,
            fingerprint=Fingerprint("1" * 64),
            result=replace(nothing_found(PROBLEM, StopReason.CANCELLED), confidence=float("nan")),
            models=FAKE_MODELS,
            problem_tokens=3,
            queue_s=0.0,
            total_s=0.0,
        )
    )
    frames = stream_frames(watcher, SolveFrames(running, REQUEST), heartbeat_s=60.0)
    assert await anext(frames) == HEARTBEAT
    (event,) = _events((await anext(frames)).decode())
    assert (event.name, event.payload["type"]) == ("error", "urn:rstar:problem:internal-error")
    with pytest.raises(ValueError, match="JSON"):
        await anext(frames)


async def test_a_silent_search_gives_a_heartbeat() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(a_request(PROBLEM), search_id="s1")
        watcher = running.watch(events=True)
        async with aclosing(stream_frames(watcher, SolveFrames(running, REQUEST), heartbeat_s=0.01)) as frames:
            assert await anext(frames) == HEARTBEAT
            assert (await anext(frames)).startswith(b"event: search_started")
            assert await anext(frames) == HEARTBEAT
            policy.gate.set()
            rest = b"".join([chunk async for chunk in frames]).decode()
    assert _events(rest)[-1].name == "done"


async def test_the_time_between_heartbeats_is_a_setting() -> None:
    policy = GatedPolicy()
    settings = Settings(heartbeat_s=0.01)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        call = AsgiCall(served, {"problem": PROBLEM, "stream": True})
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await call.has_sent(4 * [HEARTBEAT])
            policy.gate.set()
    assert b"event: done" in call.body


async def test_a_client_that_never_reads_misses_events_but_no_answer() -> None:
    async with serve() as served, asyncio.timeout(20):
        running = served.solver.start(a_request("1+2+3+4+5", trajectories=200), search_id="s1")
        watcher = running.watch(events=True)
        await running.ending()
        assert watcher.dropped > 0
        stream = [chunk async for chunk in stream_frames(watcher, SolveFrames(running, REQUEST), heartbeat_s=60.0)]
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


async def test_a_leaving_client_ends_no_other_search() -> None:
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


async def test_a_client_that_leaves_before_its_body_disturbs_nobody() -> None:
    async with serve() as served, asyncio.timeout(10):
        call = AsgiCall(served, None)
        call.leave()
        await call.run()
        after = await served.client.post("/solve", json={"problem": PROBLEM})
    assert after.status_code == 200
