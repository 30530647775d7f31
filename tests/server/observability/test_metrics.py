"""Metrics: their values after searches, refusals, cancels and clients that left."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from search import Budget, Candidate, Path, TrajectoryFinished
from server.engines.errors import EngineClosed
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import Part
from server.settings.settings import Settings
from tests.server.observability.scrape import scrape
from tests.server.serving import a_request, serve

PROBLEM = "3+4+5"


async def test_a_search_leaves_its_traces() -> None:
    async with serve() as served:
        response = (await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 4})).json()
        found = await scrape(served.client)
    usage = response["usage"]
    outcome = f'endpoint="/solve",outcome="{response["stop_reason"]}",strategy="mcts"'
    assert found[f"rstar_requests_total{{{outcome}}}"] == 1
    assert found['rstar_request_duration_seconds_count{strategy="mcts"}'] == 1
    assert found["rstar_queue_wait_seconds_count"] == 1
    assert found["rstar_time_to_first_event_seconds_count"] == 1
    assert found["rstar_time_to_first_candidate_seconds_count"] == 1
    assert found["rstar_rollouts_total"] == usage["trajectories"]
    assert found["rstar_trajectories_used_sum"] == usage["trajectories"]
    assert found["rstar_rollouts_per_request_sum"] == usage["trajectories"]
    assert found["rstar_trajectories_to_final_answer_sum"] == response["trajectories_to_answer"]
    assert found["rstar_policy_tokens_total"] >= usage["policy_tokens"]
    assert sum(value for name, value in found.items() if name.startswith("rstar_nodes_total")) > 0
    assert found["rstar_ppm_scores_count"] > 0
    executed = sum(value for name, value in found.items() if name.startswith("rstar_sandbox_executions_total"))
    assert executed == usage["code_steps"]
    assert found["rstar_sandbox_duration_seconds_count"] == usage["code_steps"]
    assert found['rstar_engine_request_duration_seconds_count{engine="policy"}'] > 0
    assert found['rstar_engine_request_duration_seconds_count{engine="ppm"}'] > 0
    assert {found[f'rstar_part_up{{part="{part}"}}'] for part in Part} == {1.0}
    assert (found["rstar_requests_in_flight"], found["rstar_queue_depth"]) == (0, 0)


async def test_the_process_shows_its_own_memory_time_and_files() -> None:
    async with serve() as served:
        found = await scrape(served.client)
    assert found["process_resident_memory_bytes"] > 10_000_000
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_open_fds"] > 3
    assert {f'python_gc_collections_total{{generation="{number}"}}' for number in range(3)} <= set(found)


async def test_the_queue_is_seen_while_it_is_there() -> None:
    policy = GatedPolicy()
    settings = Settings(concurrent_searches=4)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        request = a_request(PROBLEM)
        running = [served.solver.start(request, search_id=str(number)) for number in range(7)]
        for one in running:
            await one.accepted()
        found = await scrape(served.client)
        assert (found["rstar_requests_in_flight"], found["rstar_queue_depth"]) == (4, 3)
        policy.gate.set()
        for one in running:
            await one.ending()
        found = await scrape(served.client)
    assert (found["rstar_requests_in_flight"], found["rstar_queue_depth"]) == (0, 0)


async def test_a_search_that_a_part_fails_is_counted() -> None:
    class Failing:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise EngineClosed("closed")

    async with serve(opening(fake_parts(policy=Failing()))) as served:
        await served.client.post("/solve", json={"problem": PROBLEM, "search": {"strategy": "majority"}})
        found = await scrape(served.client)
    assert found['rstar_requests_total{endpoint="/solve",outcome="failed",strategy="majority"}'] == 1
    assert found['rstar_engine_errors_total{engine="policy",kind="closed"}'] > 0


async def test_tokens_of_an_abandoned_search_are_wasted() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    request = replace(a_request("1+2+3+4+5"), budget=Budget(trajectories=10_000))
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        running = served.solver.start(request, search_id="s1")
        watcher = running.watch(events=True)
        while not any(isinstance(event, TrajectoryFinished) for event in await watcher.events()):
            pass
        policy.gate.clear()
        watcher.leave()
        await running.ending()
        found = await scrape(served.client)
    wasted = found['rstar_wasted_tokens_total{reason="client_left"}']
    assert 0 < wasted <= found["rstar_policy_tokens_total"]


async def test_no_label_holds_what_a_client_sent() -> None:
    headers = {"x-request-id": "secret-id", "x-api-key": "secret-key"}
    async with serve() as served:
        await served.client.post("/solve", json={"problem": "123456+1"}, headers=headers)
        page = (await served.client.get("/metrics")).text
    assert "secret" not in page
    assert "123456" not in page
