"""A cancelled search on the bundled models: engines idle again, processes gone, and few tokens wasted."""

import time

import pytest

from benchmarks.fill.cancelling import CANDIDATES, cancel_one
from benchmarks.fill.parts import open_parts
from server.bundle.folders import bundled_models
from server.settings.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_a_cancelled_search_leaves_nothing_running() -> None:
    settings = Settings(sandbox_min_level="reduced")
    async with open_parts("torch", bundled_models(), settings, time.process_time) as parts:
        cancelled = [await cancel_one(parts, "What is 17 * 23 - 45?", seed=seed) for seed in range(3)]
        policy, ppm = parts.engines.policy.stats, parts.engines.ppm.stats
        assert (policy.running, policy.waiting, ppm.running, ppm.waiting) == (0, 0, 0, 0)
        assert policy.aborted >= len(cancelled)
        assert parts.sandbox.status.live_snapshots == 0
        assert (parts.engines.policy.fault, parts.engines.ppm.fault) == (None, None)
    assert min(one.in_flight for one in cancelled) >= CANDIDATES
    assert [one for one in cancelled if one.tokens_after_return > one.in_flight] == []
