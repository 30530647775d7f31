"""Local parts over tiny models: the settings reach the engines and the sandbox, and failures have a reason."""

import asyncio
import json
import logging
import os
import shutil
import signal
from pathlib import Path as FilePath

import pytest

from sandbox import Level, Sandbox
from search import Calibration, CandidateStop, Path
from server.bundle.folders import ModelFolders
from server.engines import calibration
from server.engines.protocols import EngineName, Sampling
from server.engines.self_check import FILE, write_self_check
from server.parts.opening import make_sandbox, open_local_parts
from server.parts.serving import Part, PartsUnavailable, ServingParts
from server.settings.settings import Settings

pytestmark = pytest.mark.slow

PATH = Path(problem="What is 3 + 4?")


async def test_steps_are_cut_at_the_step_limit(model_folders: ModelFolders) -> None:
    async with open_local_parts(model_folders, Settings(max_step_tokens=3), lambda _: None) as parts:
        candidates = await parts.policy(Sampling(max_step_tokens=3)).propose(PATH, 8, seed=1)
        assert parts.max_prompt_tokens == 512 - 3
    assert max(len(candidate.token_ids) for candidate in candidates) == 3
    assert CandidateStop.LENGTH in {candidate.stop for candidate in candidates}


async def test_each_search_chooses_its_sampling_and_greedy_stays(model_folders: ModelFolders) -> None:
    async with open_local_parts(model_folders, Settings(max_step_tokens=4, temperature=2.0), lambda _: None) as parts:
        first, second = [
            await parts.policy(Sampling(temperature=0.0, max_step_tokens=4)).propose(PATH, 1, seed=seed)
            for seed in (1, 2)
        ]
        narrow = await parts.policy(Sampling(top_p=1e-6, max_step_tokens=4)).propose(PATH, 1, seed=3)
        stats = parts.engine_stats()
    assert first[0].token_ids == second[0].token_ids == narrow[0].token_ids
    assert stats[EngineName.POLICY].requests == 3


async def test_a_step_as_long_as_the_context_is_refused(model_folders: ModelFolders) -> None:
    with pytest.raises(PartsUnavailable, match="lower RSTAR_MAX_STEP_TOKENS"):
        async with open_local_parts(model_folders, Settings(max_step_tokens=512), lambda _: None):
            pass


async def test_all_parts_report_and_the_sandbox_has_its_workers(model_folders: ModelFolders) -> None:
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


async def test_a_sandbox_that_cannot_start_again_is_among_the_faults(
    model_folders: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Sandbox] = []

    def make(settings: Settings) -> Sandbox:
        made.append(make_sandbox(settings))
        return made[0]

    monkeypatch.setattr("server.parts.opening.make_sandbox", make)
    async with open_local_parts(model_folders, Settings(), lambda _: None) as parts:
        assert made[0].zygote_pid is not None
        monkeypatch.setattr("sandbox.zygote_process._PACKAGE", "/nonexistent")
        os.kill(made[0].zygote_pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not parts.faults():  # noqa: ASYNC110  # faults are asked for
                await asyncio.sleep(0.02)
        assert set(parts.faults()) == {Part.SANDBOX}


def test_the_least_level_reaches_the_sandbox() -> None:
    assert make_sandbox(Settings()).min_level is Level.FULL
    assert make_sandbox(Settings(sandbox_min_level="reduced")).min_level is Level.REDUCED


async def test_models_that_cannot_be_loaded_are_one_reason(tmp_path: FilePath) -> None:
    with pytest.raises(PartsUnavailable, match=r"config\.json is missing"):
        async with open_local_parts(ModelFolders(policy=tmp_path, ppm=tmp_path), Settings(), lambda _: None):
            pass


async def test_a_ppm_that_scores_otherwise_than_noted_is_not_served(
    model_folders: ModelFolders, tmp_path: FilePath
) -> None:
    folders = ModelFolders(
        policy=model_folders.policy, ppm=FilePath(shutil.copytree(model_folders.ppm, tmp_path / "ppm"))
    )
    write_self_check(folders.ppm)
    async with open_local_parts(folders, Settings(), lambda _: None) as parts:
        assert parts.faults() == {}
    note = json.loads((folders.ppm / FILE).read_text())
    note["scores"][5] += 0.02
    (folders.ppm / FILE).write_text(json.dumps(note))
    with pytest.raises(PartsUnavailable, match="scores path 5 of the self-check"):
        async with open_local_parts(folders, Settings(), lambda _: None):
            pass


async def test_a_ppm_without_a_note_is_served_with_a_warning(
    model_folders: ModelFolders, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_local_parts(model_folders, Settings(), lambda _: None):
            pass
    assert "its scores are not checked" in caplog.text


async def test_a_fit_beside_the_ppm_reaches_the_parts(model_folders: ModelFolders, tmp_path: FilePath) -> None:
    folders = ModelFolders(
        policy=model_folders.policy, ppm=FilePath(shutil.copytree(model_folders.ppm, tmp_path / "ppm"))
    )
    fit = Calibration(scale=0.8, budget_slope=0.3, offset=-0.5)
    calibration.write_calibration(folders, fit, problems=700)
    async with open_local_parts(folders, Settings(), lambda _: None) as parts:
        assert parts.calibration == fit
    (folders.ppm / calibration.FILE).write_text("{}")
    with pytest.raises(PartsUnavailable, match=r"calibration\.json: unreadable"):
        async with open_local_parts(folders, Settings(), lambda _: None):
            pass
