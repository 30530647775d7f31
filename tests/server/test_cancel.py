"""`POST /solve/{id}/cancel`: ends a search, whoever waits for it gets the best answer so far."""

import asyncio

import httpx

from server.fakes import GatedPolicy, Served, fake_parts, opening, serve
from server.wire import read_frames

PROBLEM = "1+2+3+4"


async def _solve(served: Served, request_id: str) -> httpx.Response:
    body = {"problem": PROBLEM, "trajectories": 200}
    return await served.client.post("/solve", json=body, headers={"x-request-id": request_id})


async def test_the_one_who_waits_gets_the_answer_so_far() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        solving = group.create_task(_solve(served, "r1"))
        await policy.entered.wait()
        cancelled = await served.client.post("/solve/r1/cancel")
        assert (cancelled.status_code, cancelled.json()) == (200, {"id": "r1", "state": "stopping"})
        response = await solving
        assert response.status_code == 200
        assert response.json()["stop_reason"] == "cancelled"
        assert (policy.waiting, policy.cancelled) == (0, 1)
        for name in ("r1", response.json()["id"]):
            again = await served.client.post(f"/solve/{name}/cancel")
            assert (again.status_code, again.json()["state"]) == (200, "ended")


async def test_a_stream_that_is_cancelled_ends_with_its_answer() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        body = {"problem": PROBLEM, "stream": True}
        streaming = group.create_task(served.client.post("/solve", json=body, headers={"x-request-id": "r2"}))
        await policy.entered.wait()
        await served.client.post("/solve/r2/cancel")
        events = list(read_frames((await streaming).text.splitlines()))
    assert [event.name for event in events] == ["search_started", "done"]
    assert events[-1].payload["stop_reason"] == "cancelled"


async def test_an_id_that_never_was_is_not_found() -> None:
    async with serve() as served:
        response = await served.client.post("/solve/nobody/cancel")
    assert (response.status_code, response.json()["type"]) == (404, "urn:rstar:problem:not-found")
