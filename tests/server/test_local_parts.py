"""Local parts over tiny models: the settings reach the engines and the sandbox, and failures have a reason."""

import asyncio
from pathlib import Path as FilePath

import pytest

from search import CandidateStop, Path
from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.local_parts import open_local_parts
from server.parts import Part, PartsUnavailable, ServingParts
from server.settings import Settings
from server.torch_models import load_models

pytestmark = pytest.mark.slow

PATH = Path(problem="What is 3 + 4?")


async def _proposed(models: ModelFolders, settings: Settings, *, seed: int) -> list[tuple[int, ...]]:
    loaded = load_models(models, settings)
    async with loaded.policy, loaded.greedy_policy:
        return [candidate.token_ids for candidate in await loaded.policy.propose(PATH, 3, seed=seed)]


async def test_steps_are_cut_at_the_step_limit(model_folders: ModelFolders) -> None:
    loaded = load_models(model_folders, Settings(max_step_tokens=3))
    async with loaded.policy, loaded.greedy_policy:
        candidates = await loaded.policy.propose(PATH, 8, seed=1)
    assert max(len(candidate.token_ids) for candidate in candidates) == 3
    assert CandidateStop.LENGTH in {candidate.stop for candidate in candidates}
    assert loaded.max_prompt_tokens == 512 - 3


async def test_temperature_and_top_p_reach_the_sampling_policy(model_folders: ModelFolders) -> None:
    sampled = await _proposed(model_folders, Settings(max_step_tokens=4), seed=1)
    cold = await _proposed(model_folders, Settings(max_step_tokens=4, temperature=0.0), seed=1)
    narrow = await _proposed(model_folders, Settings(max_step_tokens=4, top_p=1e-6), seed=1)
    assert len(set(sampled)) == 3
    assert len(set(cold)) == 1
    assert narrow == cold


async def test_the_greedy_policy_ignores_the_temperature(model_folders: ModelFolders) -> None:
    loaded = load_models(model_folders, Settings(max_step_tokens=4, temperature=2.0))
    async with loaded.policy, loaded.greedy_policy:
        first, second = [await loaded.greedy_policy.propose(PATH, 1, seed=seed) for seed in (1, 2)]
    assert first[0].token_ids == second[0].token_ids


def test_a_step_as_long_as_the_context_is_refused(model_folders: ModelFolders) -> None:
    with pytest.raises(CheckpointError, match="lower RSTAR_MAX_STEP_TOKENS"):
        load_models(model_folders, Settings(max_step_tokens=512))


async def test_all_parts_report_and_the_sandbox_runs_as_many_steps_as_it_may(model_folders: ModelFolders) -> None:
    reported: list[Part] = []

    async def interval(parts: ServingParts) -> list[float]:
        async with parts.open_runner(1) as runner:
            code = "import time\nbegin = time.monotonic()\ntime.sleep(0.1)\nprint(begin, time.monotonic())"
            return [float(number) for number in (await runner.run(None, code)).stdout.split()]

    async with open_local_parts(model_folders, Settings(sandbox_workers=1), reported.append) as parts:
        assert set(reported) == set(Part)
        assert parts.faults() == {}
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(interval(parts)) for _ in range(2)]
    (_, first_end), (second_begin, _) = sorted(task.result() for task in running)
    assert first_end <= second_begin


async def test_models_that_cannot_be_loaded_are_one_reason(tmp_path: FilePath) -> None:
    with pytest.raises(PartsUnavailable, match=r"config\.json is missing"):
        async with open_local_parts(ModelFolders(policy=tmp_path, ppm=tmp_path), Settings(), lambda _: None):
            pass
