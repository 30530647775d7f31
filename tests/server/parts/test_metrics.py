"""Metrics of the parts: values that a scrape reads from engines and sandbox."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from sandbox import Sandbox
from server.engines.protocols import EngineName, EngineStats
from server.parts.fakes import fake_parts, opening
from server.parts.runner import STEP_LIMITS
from server.parts.serving import Part
from tests.server.observability.scrape import scrape
from tests.server.serving import serve


def engine_stats() -> Mapping[EngineName, EngineStats]:
    counters = EngineStats(requests=3, aborted=1, forward_passes=5, tokens_generated=70, running=2, waiting=4)
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
"""Metrics that dashboards and autoscaling by the queue rely on."""


async def test_a_scrape_reads_engines_and_sandbox() -> None:
    async with Sandbox(limits=STEP_LIMITS, workers=1) as sandbox:
        parts = replace(fake_parts(), engine_stats=engine_stats, sandbox_status=lambda: sandbox.status)
        async with sandbox.tree(seed=1) as tree, serve(opening(parts)) as served, asyncio.TaskGroup() as group:
            await tree.run(None, "x = 1")
            ready = (await served.client.get("/readyz")).json()
            found = await scrape(served.client)
            place = sandbox.slots.queue()  # the only one: the step has to wait for it
            step = group.create_task(tree.run(None, "x = 2"))
            await asyncio.sleep(0)
            busy = await scrape(served.client)
            sandbox.slots.leave(place)
            await step
            afterwards = await scrape(served.client)
            page = (await served.client.get("/metrics")).text
        level = sandbox.status.level
    families = {family.name for family in text_string_to_metric_families(page)}
    assert {f"rstar_{name}" for name in AGREED} <= families
    assert all(name.startswith(("rstar_", "process_", "python_gc_")) for name in families)
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
        found = await scrape(served.client)
    assert (found['rstar_part_up{part="ppm"}'], found['rstar_part_up{part="policy"}']) == (0, 1)
