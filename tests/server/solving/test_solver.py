"""Solver: readiness, failures, and the end of all searches when the server stops."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from search import AnswerChanged, Budget, StopReason
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import OpenParts, Part, PartsUnavailable, ServingParts
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import CancelState, FinishedSearch
from server.solving.solver import Solver
from tests.server.serving import a_request, serve

REQUEST = a_request()


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


async def test_until_all_parts_are_open_searches_are_refused() -> None:
    gate, closed = asyncio.Event(), asyncio.Event()
    async with serve(_opening_later(gate, closed), waits=False) as served, asyncio.timeout(10):
        await asyncio.sleep(0)
        response = await served.client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {
            "ready": False,
            "parts": {"policy": "starting", "ppm": "starting", "sandbox": "ready", "equality": "starting"},
            "sandbox_level": None,
        }
        with pytest.raises(Refusal) as refused:
            served.solver.start(REQUEST, search_id="s1")
        assert refused.value.kind is RefusalKind.NOT_READY
        assert "policy: starting" in refused.value.detail
        assert "sandbox" not in refused.value.detail
        assert (await served.client.get("/healthz")).status_code == 200
        version = (await served.client.get("/version")).json()
        assert (version["models"], version["confidence_fitted"]) == (None, None)
        gate.set()
        await served.ready.wait()
        assert served.solver.is_ready
        assert (await served.client.get("/version")).json()["models"] == {
            "policy": "arithmetic@fake",
            "ppm": "constant@fake",
        }
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
    solver = Solver(open_parts, Settings(), on_failure=failures.put_nowait)
    async with asyncio.timeout(10), solver.running():
        assert (await failures.get()).endswith("no such model folder")
        assert not solver.is_ready
    assert failures.empty()


async def test_stopping_ends_searches_and_refuses_new_ones() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(REQUEST, search_id="s1")
        await policy.entered.wait()
        served.solver.stop()
        ending = await running.ending()
        assert isinstance(ending, FinishedSearch)
        assert (ending.result.stop_reason, ending.result.answer) == (StopReason.CANCELLED, None)
        assert policy.cancelled == 1
        assert not served.solver.is_ready
        with pytest.raises(Refusal) as refused:
            served.solver.start(REQUEST, search_id="s2")
        assert refused.value.kind is RefusalKind.STOPPING


async def test_leaving_stops_searches_before_it_closes_the_parts() -> None:
    order_of_events: list[str] = []
    policy = GatedPolicy()

    @asynccontextmanager
    async def open_parts(_: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        yield fake_parts(policy=policy)
        order_of_events.append(f"closed with {policy.waiting} calls in flight, {policy.cancelled} cancelled")

    async with asyncio.timeout(10), serve(open_parts, settings=Settings(concurrent_searches=4)) as served:
        running = [served.solver.start(REQUEST, search_id=str(number)) for number in range(6)]
        await policy.entered.wait()
    assert order_of_events == ["closed with 0 calls in flight, 4 cancelled"]
    endings = [await one.ending() for one in running]
    reasons = [one.result.stop_reason if isinstance(one, FinishedSearch) else one.kind for one in endings]
    assert reasons == 4 * [StopReason.CANCELLED] + 2 * [RefusalKind.STOPPING]


async def test_a_search_cancelled_before_it_began_ends_with_nothing() -> None:
    async with serve() as served, asyncio.timeout(10):
        running = served.solver.start(REQUEST, search_id="s1")
        running.ask_to_end()
        ending = await running.ending()
    assert isinstance(ending, FinishedSearch)
    assert (ending.result.stop_reason, ending.result.answer) == (StopReason.CANCELLED, None)


async def test_a_search_cancelled_in_the_queue_leaves_it_at_once() -> None:
    policy = GatedPolicy()
    settings = Settings(concurrent_searches=1)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(10):
        first = served.solver.start(REQUEST, search_id="r1-1")
        await policy.entered.wait()
        second = served.solver.start(REQUEST, search_id="r2-1")
        assert served.solver.cancel("r2-1") is CancelState.STOPPING
        ending = await second.ending()
        assert isinstance(ending, FinishedSearch)
        assert ending.result.stop_reason is StopReason.CANCELLED
        policy.gate.set()
        last = await first.ending()
    assert isinstance(last, FinishedSearch)
    assert last.result.answer is not None


async def test_a_cancelled_search_gives_its_best_answer_so_far() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    request = replace(a_request("1+2+3+4"), budget=Budget(trajectories=10_000))
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(request, search_id="r1-1", client="ann")
        watcher = running.watch(events=True)
        while not any(isinstance(event, AnswerChanged) for event in await watcher.events()):
            pass
        policy.gate.clear()
        assert served.solver.cancel("r1", client="ann") is CancelState.STOPPING
        ending = await watcher.search.ending()
        assert isinstance(ending, FinishedSearch)
        assert ending.result.stop_reason in (StopReason.CANCELLED, StopReason.EXHAUSTED)
        assert ending.result.answer is not None
        for name, client in (("r1", "ann"), ("r1-1", "ann"), ("r1-1", None)):
            assert served.solver.cancel(name, client=client) is CancelState.ENDED
        for name, client in (("r1-1", "bob"), ("r1-1", ""), ("r2", "ann"), ("", "ann"), ("r1", None)):
            with pytest.raises(Refusal) as refused:
                served.solver.cancel(name, client=client)
            assert refused.value.kind is RefusalKind.NOT_FOUND


async def test_a_search_goes_on_until_its_last_watcher_leaves() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(REQUEST, search_id="r1-1")
        first, second = running.watch(), running.watch(events=True)
        await policy.entered.wait()
        first.leave()
        first.leave()
        assert not running.stop.is_asked
        second.leave()
        assert running.is_abandoned
        await running.ending()
        assert (policy.waiting, policy.cancelled) == (0, 1)
        assert len(asyncio.all_tasks()) >= 1
        page = served.solver.metrics.page().decode()
    assert 'rstar_wasted_tokens_total{reason="client_left"} 0.0' in page


async def test_leaving_after_the_end_changes_nothing() -> None:
    async with serve() as served, asyncio.timeout(10):
        running = served.solver.start(REQUEST, search_id="s1")
        watcher = running.watch()
        ending = await watcher.search.ending()
        watcher.leave()
        assert not running.is_abandoned
        assert await running.ending() == ending
        assert not isinstance(ending, Refusal)


async def test_draining_lets_searches_end_and_takes_none() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = served.solver.start(REQUEST, search_id="s1")
        await policy.entered.wait()
        draining = group.create_task(served.solver.drain(60.0))
        await asyncio.sleep(0)
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["server"]) == (503, "draining")
        refused = await served.client.post("/solve", json={"problem": "1+1"})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:rstar:problem:stopping")
        assert int(refused.headers["retry-after"]) > 0
        policy.gate.set()
        await draining
        ending = await running.ending()
    assert isinstance(ending, FinishedSearch)
    assert ending.result.answer is not None
    assert ending.result.stop_reason is not StopReason.CANCELLED


async def test_draining_ends_long_searches_with_what_they_have() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        running = served.solver.start(REQUEST, search_id="s1")
        await policy.entered.wait()
        await served.solver.drain(0.01)
        ending = await running.ending()
    assert isinstance(ending, FinishedSearch)
    assert ending.result.stop_reason is StopReason.CANCELLED


async def test_a_search_beyond_slots_and_queue_gets_retry_after() -> None:
    policy = GatedPolicy()
    settings = Settings(concurrent_searches=1, queued_searches=1)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(10):
        running = [served.solver.start(REQUEST, search_id=str(number)) for number in range(2)]
        response = await served.client.post("/solve", json={"problem": "1+1"})
        assert (response.status_code, response.json()["type"]) == (503, "urn:rstar:problem:overloaded")
        assert int(response.headers["retry-after"]) > 0
        policy.gate.set()
        for one in running:
            await one.ending()
        assert (await served.client.post("/solve", json={"problem": "1+1"})).status_code == 200
        page = served.solver.metrics.page().decode()
    assert 'rstar_admission_rejections_total{reason="overloaded"} 1.0' in page


async def test_a_client_above_its_quota_is_refused_and_others_not() -> None:
    policy = GatedPolicy()
    settings = Settings(max_searches_per_key=1)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served:
        served.solver.start(REQUEST, search_id="1", client="ann")
        with pytest.raises(Refusal) as refused:
            served.solver.start(REQUEST, search_id="2", client="ann")
        assert refused.value.kind is RefusalKind.QUOTA_EXCEEDED
        assert refused.value.retry_after_s
        served.solver.start(REQUEST, search_id="3", client="bob")
        policy.gate.set()


async def test_waiting_in_the_queue_counts_towards_time() -> None:
    policy = GatedPolicy()
    parts = opening(fake_parts(policy=policy))
    async with serve(parts) as served, asyncio.timeout(10):
        running = [served.solver.start(REQUEST, search_id=str(number)) for number in range(5)]
        await policy.entered.wait()
        policy.gate.set()
        endings = [await one.ending() for one in running]
    assert not any(isinstance(ending, Refusal) for ending in endings)
    last = endings[-1]
    assert not isinstance(last, Refusal)
    assert 0 < last.queue_s <= last.total_s


async def test_a_problem_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serve() as served:
        await served.client.post("/solve", json={"problem": "123456789+1"})
    assert "after" in caplog.text
    assert "123456789" not in caplog.text
