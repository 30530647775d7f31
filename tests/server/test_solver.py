"""The solver: readiness, failures, and the end of everything when the server stops."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from search import SearchConfig
from server.fakes import FAKE_MODELS, GatedPolicy, fake_parts, opening, serve
from server.orders import Order
from server.parts import OpenParts, Part, PartsUnavailable, ServingParts
from server.refusals import Kind, Refusal
from server.solver import Solver

ORDER = Order(problem="1+2", config=SearchConfig(), trajectories=2, timeout_s=60.0, seed=0)


def _opening_later(gate: asyncio.Event, closed: asyncio.Event) -> OpenParts:
    @asynccontextmanager
    async def open_parts(report: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        report(Part.SANDBOX)
        try:
            await gate.wait()
            yield fake_parts()
        finally:
            closed.set()

    return open_parts


async def test_until_the_parts_are_open_each_is_named_and_searches_are_refused() -> None:
    gate, closed = asyncio.Event(), asyncio.Event()
    async with serve(_opening_later(gate, closed), waits=False) as served, asyncio.timeout(10):
        await asyncio.sleep(0)
        response = await served.client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {
            "ready": False,
            "parts": {"policy": "starting", "ppm": "starting", "sandbox": "ready", "equality": "starting"},
        }
        with pytest.raises(Refusal) as refused:
            served.solver.start(ORDER, search_id="s1")
        assert refused.value.kind is Kind.NOT_READY
        assert "policy: starting" in refused.value.detail
        assert "sandbox" not in refused.value.detail
        assert (await served.client.get("/healthz")).status_code == 200
        assert (await served.client.get("/version")).json()["models"] is None
        gate.set()
        await served.ready.wait()
        assert served.solver.is_ready
        assert served.solver.models == FAKE_MODELS
    assert closed.is_set()


async def test_stopping_while_the_parts_open_does_not_wait_for_them() -> None:
    closed = asyncio.Event()
    async with asyncio.timeout(10), serve(_opening_later(asyncio.Event(), closed), waits=False):
        await asyncio.sleep(0)
    assert closed.is_set()


@pytest.mark.parametrize("error", [PartsUnavailable("no such model folder"), OSError("no such model folder")])
async def test_parts_that_do_not_open_are_reported_with_the_reason(error: Exception) -> None:
    @asynccontextmanager
    async def open_parts(_: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        raise error
        yield

    failures: asyncio.Queue[str] = asyncio.Queue()
    solver = Solver(open_parts, concurrent_searches=1, on_failure=failures.put_nowait)
    async with asyncio.timeout(10), solver.running():
        assert (await failures.get()).endswith("no such model folder")
        assert not solver.is_ready
    assert failures.empty()


async def test_stopping_cancels_what_runs_and_refuses_what_comes() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(ORDER, search_id="s1")
        await policy.entered.wait()
        served.solver.stop()
        ending = await running.ending()
        assert isinstance(ending, Refusal)
        assert ending.kind is Kind.STOPPING
        assert policy.cancelled == 1
        assert not served.solver.is_ready
        with pytest.raises(Refusal) as refused:
            served.solver.start(ORDER, search_id="s2")
        assert refused.value.kind is Kind.STOPPING


async def test_leaving_stops_searches_before_it_closes_the_parts() -> None:
    order_of_events: list[str] = []
    policy = GatedPolicy()

    @asynccontextmanager
    async def open_parts(_: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        yield fake_parts(policy=policy)
        order_of_events.append(f"closed with {policy.waiting} calls in flight, {policy.cancelled} cancelled")

    async with asyncio.timeout(10), serve(open_parts) as served:
        running = [served.solver.start(ORDER, search_id=str(number)) for number in range(6)]
        await policy.entered.wait()
    assert order_of_events == ["closed with 0 calls in flight, 4 cancelled"]
    endings = [await one.ending() for one in running]
    assert all(isinstance(ending, Refusal) for ending in endings)


async def test_a_search_given_up_before_it_began_still_ends() -> None:
    async with serve() as served, asyncio.timeout(10):
        running = served.solver.start(ORDER, search_id="s1")
        running.give_up()
        assert isinstance(await running.ending(), Refusal)


async def test_giving_up_after_the_end_changes_nothing() -> None:
    async with serve() as served, asyncio.timeout(10):
        running = served.solver.start(ORDER, search_id="s1")
        ending = await running.ending()
        running.give_up()
        assert await running.ending() == ending
        assert not isinstance(ending, Refusal)


async def test_waiting_in_the_queue_counts_towards_time() -> None:
    policy = GatedPolicy()
    parts = opening(fake_parts(policy=policy))
    async with serve(parts) as served, asyncio.timeout(10):
        running = [served.solver.start(ORDER, search_id=str(number)) for number in range(5)]
        await policy.entered.wait()
        policy.gate.set()
        endings = [await one.ending() for one in running]
    assert not any(isinstance(ending, Refusal) for ending in endings)
    last = endings[-1]
    assert not isinstance(last, Refusal)
    assert 0 < last.timing_s.queue <= last.timing_s.total


async def test_a_problem_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serve() as served:
        await served.client.post("/solve", json={"problem": "123456789+1"})
    assert "after" in caplog.text
    assert "123456789" not in caplog.text
