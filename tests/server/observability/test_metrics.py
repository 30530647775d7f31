"""Metrics: what a scrape finds after searches, refusals, cancels and abandoned clients."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox import Sandbox
from search import Path, PathTooLong, SearchConfig, Strategy, TrajectoryFinished
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.protocols import EngineName
from server.engines.remote.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.stats import EngineCounters, EngineStats
from server.parts.fakes import GatedPolicy, Served, fake_parts, opening, serve
from server.parts.runner import STEP_LIMITS
from server.parts.serving import Part
from server.settings.settings import Settings
from server.solving.orders import Order

PROBLEM = "3+4+5"


async def samples(served: Served) -> dict[str, float]:
    """Every sample of the scrape by its name and labels, spelt as Prometheus does."""
    response = await served.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_a_search_leaves_its_traces() -> None:
    async with serve() as served:
        response = (await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 4})).json()
        found = await samples(served)
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


async def test_the_queue_is_seen_while_it_is_there() -> None:
    policy = GatedPolicy()
    settings = Settings(concurrent_searches=4)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        order = Order(problem=PROBLEM, config=SearchConfig(), trajectories=2, timeout_s=60.0, seed=0)
        running = [served.solver.start(order, search_id=str(number)) for number in range(7)]
        found = await samples(served)
        assert (found["rstar_requests_in_flight"], found["rstar_queue_depth"]) == (4, 3)
        policy.gate.set()
        for one in running:
            await one.ending()
        found = await samples(served)
    assert (found["rstar_requests_in_flight"], found["rstar_queue_depth"]) == (0, 0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineClosed("closed"), "closed"),
        (EngineFailed("died"), "failed"),
        (RemoteUnavailable("nobody answers"), "unavailable"),
        (RemoteRefused("HTTP 404"), "refused"),
        (RemoteMismatch("no vLLM"), "mismatch"),
        (EngineError("something"), "other"),
        (ValueError("a bug"), "other"),
    ],
)
async def test_a_search_that_fails_is_counted_and_so_is_the_engines_error(error: Exception, kind: str) -> None:
    class Failing:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[object]:
            raise error

    async with serve(opening(fake_parts(policy=Failing()))) as served:  # pyright: ignore[reportArgumentType]
        await served.client.post("/solve", json={"problem": PROBLEM, "search": {"strategy": "majority"}})
        found = await samples(served)
    outcome = f'endpoint="/solve",outcome="failed",strategy="{Strategy.MAJORITY}"'
    assert found[f"rstar_requests_total{{{outcome}}}"] == 1
    errors = {name: value for name, value in found.items() if name.startswith("rstar_engine_errors_total") and value}
    assert list(errors) == [f'rstar_engine_errors_total{{engine="policy",kind="{kind}"}}']


async def test_a_path_that_is_too_long_is_no_error_of_an_engine() -> None:
    class Full:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[object]:
            raise PathTooLong

    async with serve(opening(fake_parts(policy=Full()))) as served:  # pyright: ignore[reportArgumentType]
        await served.client.post("/solve", json={"problem": PROBLEM})
        found = await samples(served)
    assert sum(value for name, value in found.items() if name.startswith("rstar_engine_errors_total")) == 0


async def test_tokens_of_an_abandoned_search_are_wasted() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    order = Order(problem="1+2+3+4+5", config=SearchConfig(), trajectories=10_000, timeout_s=60.0, seed=0)
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        running = served.solver.start(order, search_id="s1")
        watch = running.watch(events=True)
        assert watch.progress is not None
        while not isinstance(await watch.progress.next(), TrajectoryFinished):
            pass
        policy.gate.clear()
        watch.leave()
        await running.ending()
        found = await samples(served)
    wasted = found['rstar_wasted_tokens_total{reason="client_left"}']
    assert 0 < wasted <= found["rstar_policy_tokens_total"]


def engine_stats() -> Mapping[EngineName, EngineStats]:
    counters = EngineCounters(requests=3, aborted=1, forward_passes=5, tokens_generated=70, running=2, waiting=4)
    for size in (1, 4, 4, 300):
        counters.observe_batch(size)
    return dict.fromkeys(EngineName, counters.snapshot())


AGREED = (
    *("requests", "request_duration_seconds", "time_to_first_candidate_seconds", "time_to_first_event_seconds"),
    *("requests_in_flight", "queue_depth", "queue_wait_seconds", "admission_rejections", "rollouts", "nodes"),
    *("tree_depth", "rollouts_per_request", "early_stops", "policy_tokens", "wasted_tokens", "ppm_scores"),
    *("engine_batch_size", "engine_request_duration_seconds", "engine_errors", "engine_running", "engine_waiting"),
    *("sandbox_executions", "sandbox_duration_seconds", "sandbox_queue_wait_seconds", "sandbox_workers"),
    *("trajectories_used", "trajectories_to_final_answer", "build_info"),
)
"""What dashboards and whoever scales the server by its queue rely on."""


async def test_engines_and_sandbox_tell_of_themselves_and_all_names_are_there() -> None:
    async with Sandbox(limits=STEP_LIMITS, workers=1) as sandbox:
        parts = replace(fake_parts(), engine_stats=engine_stats, sandbox_status=lambda: sandbox.status)
        async with sandbox.tree(seed=1) as tree, serve(opening(parts)) as served, asyncio.TaskGroup() as group:
            await tree.run(None, "x = 1")
            ready = (await served.client.get("/readyz")).json()
            found = await samples(served)
            place = sandbox.slots.queue()  # the only one: the step has to wait for it
            step = group.create_task(tree.run(None, "x = 2"))
            await asyncio.sleep(0)
            busy = await samples(served)
            sandbox.slots.leave(place)
            await step
            afterwards = await samples(served)
            page = (await served.client.get("/metrics")).text
        level = sandbox.status.level
    families = {family.name for family in text_string_to_metric_families(page)}
    assert {f"rstar_{name}" for name in AGREED} <= families
    assert all(name.startswith("rstar_") for name in families)
    assert ready["sandbox_level"] == level
    assert found[f'rstar_sandbox_level{{level="{level}"}}'] == 1
    assert found["rstar_sandbox_snapshots"] == 1
    workers = [
        [page[f'rstar_sandbox_workers{{state="{state}"}}'] for state in ("busy", "idle")] for page in (found, busy)
    ]
    assert workers == [[0, 1], [1, 0]]
    assert (busy["rstar_sandbox_queue_depth"], afterwards["rstar_sandbox_queue_depth"]) == (1, 0)
    waits = "rstar_sandbox_queue_wait_seconds"
    assert (afterwards[f"{waits}_count"], afterwards[f'{waits}_bucket{{le="+Inf"}}']) == (2, 2)
    assert afterwards[f"{waits}_sum"] > found[f"{waits}_sum"]  # the second waited for its place
    assert found['rstar_engine_generated_tokens_total{engine="policy"}'] == 70
    assert found['rstar_engine_aborted_requests_total{engine="ppm"}'] == 1
    assert found['rstar_engine_waiting{engine="policy"}'] == 4
    buckets = [
        found[f'rstar_engine_batch_size_bucket{{engine="ppm",le="{bound}"}}'] for bound in ("1.0", "4.0", "+Inf")
    ]
    assert buckets == [1, 3, 4]
    assert found['rstar_engine_batch_size_sum{engine="ppm"}'] == 309


async def test_a_broken_part_is_down() -> None:
    async with serve(opening(fake_parts(faults={Part.PPM: "it died"}))) as served:
        found = await samples(served)
    assert (found['rstar_part_up{part="ppm"}'], found['rstar_part_up{part="policy"}']) == (0, 1)


async def test_no_label_holds_what_a_client_sent() -> None:
    headers = {"x-request-id": "secret-id", "x-api-key": "secret-key"}
    async with serve() as served:
        await served.client.post("/solve", json={"problem": "123456+1"}, headers=headers)
        page = (await served.client.get("/metrics")).text
    assert "secret" not in page
    assert "123456" not in page
