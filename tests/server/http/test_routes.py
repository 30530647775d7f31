"""Routes: cancelling a search, and the probes."""

import asyncio
import re

import httpx
import pytest
from pydantic import SecretStr

from search import Calibration
from server.http.streams import read_frames
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import Part
from server.settings.settings import Settings
from tests.server.http.asgi_call import AsgiCall
from tests.server.serving import Served, check_problem, serve

PROBLEM = "1+2+3+4"
ALICE, BOB = {"x-api-key": "alice-0123456789"}, {"x-api-key": "bob-0123456789ab"}
KEYED = Settings(api_keys=SecretStr(f"{ALICE['x-api-key']},{BOB['x-api-key']}"))


async def _solve(served: Served, request_id: str) -> httpx.Response:
    body = {"problem": PROBLEM, "trajectories": 200}
    return await served.client.post("/solve", json=body, headers={"x-request-id": request_id, **ALICE})


async def test_a_cancelled_request_gets_the_answer_so_far() -> None:
    policy = GatedPolicy()
    parts = opening(fake_parts(policy=policy))
    async with serve(parts, settings=KEYED) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        solving = group.create_task(_solve(served, "r1"))
        await policy.entered.wait()
        others = await served.client.post("/solve/r1/cancel", headers=BOB)
        assert (others.status_code, policy.cancelled) == (404, 0)
        cancelled = await served.client.post("/solve/r1/cancel", headers=ALICE)
        assert (cancelled.status_code, cancelled.json()) == (200, {"id": "r1", "state": "stopping"})
        response = await solving
        assert response.status_code == 200
        assert response.json()["stop_reason"] == "cancelled"
        assert (policy.waiting, policy.cancelled) == (0, 1)
        for name in ("r1", response.json()["id"]):
            again = await served.client.post(f"/solve/{name}/cancel", headers=ALICE)
            assert (again.status_code, again.json()["state"]) == (200, "ended")


async def test_a_cancelled_stream_ends_with_its_answer() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        body = {"problem": PROBLEM, "stream": True}
        call = AsgiCall(served, body)
        group.create_task(call.run())
        await policy.entered.wait()
        started = await call.has_sent_event("search_started")
        cancelled = await served.client.post(f"/solve/{started.payload['id']}/cancel")
        assert cancelled.json()["state"] == "stopping"
        ended = await call.has_sent_event("done")
    assert ended.payload["stop_reason"] == "cancelled"


async def test_cancelling_an_unknown_id_is_not_found() -> None:
    async with serve() as served:
        response = await served.client.post("/solve/nobody/cancel")
    assert (response.status_code, response.json()["type"]) == (404, "urn:rstar:problem:not-found")


@pytest.mark.parametrize("guess", ["r1", "r1-", "r1-00000000", "r1-" + "0" * 32])
async def test_without_keys_a_request_id_cancels_nothing(guess: str) -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        solving = [group.create_task(_solve(served, "r1")) for _ in range(2)]
        await policy.entered.wait()
        refused = await served.client.post(f"/solve/{guess}/cancel")
        assert (refused.status_code, policy.cancelled) == (404, 0)
        assert "search_started" in refused.json()["detail"]
        policy.gate.set()
    ids = [task.result().json()["id"] for task in solving]
    assert ids[0] != ids[1]
    assert all(re.fullmatch("r1-[0-9a-f]{32}", search_id) for search_id in ids)


async def test_a_broken_part_is_named_and_nothing_is_accepted() -> None:
    faults: dict[Part, str] = {}
    async with serve(opening(fake_parts(faults=faults))) as served:
        well = await served.client.get("/readyz")
        faults[Part.PPM] = "its engine failed"
        broken = await served.client.get("/readyz")
        refused = await served.client.post("/solve", json={"problem": PROBLEM})
    assert (well.status_code, well.json()["ready"]) == (200, True)
    assert set(well.json()["parts"].values()) == {"ready"}
    assert (broken.status_code, broken.json()["ready"]) == (503, False)
    assert broken.json()["parts"] == {
        "policy": "ready",
        "ppm": "its engine failed",
        "sandbox": "ready",
        "equality": "ready",
    }
    assert "ppm: its engine failed" in check_problem(refused, 503, "not-ready")["detail"]
    assert refused.headers["retry-after"].isdecimal()


async def test_health_and_version_need_nothing() -> None:
    async with serve() as served:
        health = await served.client.get("/healthz")
        version = await served.client.get("/version")
    assert health.json() == {"status": "ok"}
    assert version.json()["models"] == {"policy": "arithmetic@fake", "ppm": "constant@fake"}
    assert version.json()["version"]


async def test_only_searches_as_in_the_fit_have_a_fitted_confidence() -> None:
    fit = Calibration(scale=0.5, budget_slope=0.0, offset=-1.0)
    search = {"stop_when_decided": False, "parallel_rollouts": 1}
    body = {"problem": PROBLEM, "trajectories": 4, "search": search}
    best = {**body, "search": {**search, "selection": "best"}}
    async with serve(opening(fake_parts(calibration=fit))) as served:
        version = (await served.client.get("/version")).json()
        fitted, other = [(await served.client.post("/solve", json=each)).json() for each in (body, best)]
        stream = (await served.client.post("/solve", json={**body, "stream": True})).text
    async with serve() as served:
        unfitted_version = (await served.client.get("/version")).json()
        unfitted = (await served.client.post("/solve", json=body)).json()
    assert (version["confidence_fitted"], unfitted_version["confidence_fitted"]) == (True, False)
    assert [each["confidence_fitted"] for each in (fitted, other, unfitted)] == [True, False, False]
    assert fitted["confidence"] == fit.confidence(unfitted["confidence"], trajectories=4)
    assert fitted["tree_id"] == unfitted["tree_id"]
    changed = [event.payload for event in read_frames(stream.splitlines()) if event.name == "answer_changed"]
    assert changed[-1] == {
        "answer": fitted["answer"],
        "confidence": fitted["confidence"],
        "confidence_fitted": True,
    }


async def test_stop_at_confidence_compares_the_fitted_number() -> None:
    doubtful = Calibration(scale=0.5, budget_slope=0.0, offset=-3.0)
    search = {"stop_when_decided": False, "parallel_rollouts": 1, "stop_at_confidence": 0.5}
    body = {"problem": PROBLEM, "trajectories": 4, "search": search}
    async with serve() as served:
        unfitted = (await served.client.post("/solve", json=body)).json()
    async with serve(opening(fake_parts(calibration=doubtful))) as served:
        fitted = (await served.client.post("/solve", json=body)).json()
    assert (unfitted["stop_reason"], fitted["stop_reason"]) == ("converged", "budget")
    assert fitted["confidence"] < 0.5 <= unfitted["confidence"]
