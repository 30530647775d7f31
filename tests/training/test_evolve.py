# pyright: basic
"""Evolution: all four rounds of the recipe `smoke`, whole, killed on the way, and with a worse model planted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load.server_process import BUNDLED, started
from server.bundle.folders import ModelFolders
from server.engines.calibration import read_calibration
from training.evaluation.measure import Models
from training.evolve import Evolution
from training.problems.problem import read_problems
from training.recipe import read_recipe
from training.run_folder import RunFolder, content_hash, open_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
RECIPE = read_recipe("smoke")
ROUNDS = range(1, len(RECIPE.rounds) + 1)
DATA = ("trees", "labels.jsonl", "solutions.jsonl", "perturbed", "pairs.jsonl")


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training", "evolve", "smoke", "--run", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stderr=log, stdout=log)


def finish(folder: Path) -> None:
    assert start(folder).wait() == 0, (folder / "log.txt").read_text()[-3000:]


def kill_when(folder: Path, moment: Callable[[], bool]) -> None:
    """Begin or go on with the run, and kill it with SIGKILL as soon as the moment has come."""
    run = start(folder)
    while not moment():
        assert run.poll() is None, (folder / "log.txt").read_text()[-3000:]
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}


def lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True) if file.exists() else []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    yield folder
    shutil.rmtree(folder)


def test_smoke_finishes_every_stage_of_four_rounds(whole: Path) -> None:
    done = stages(whole)
    for number in ROUNDS:
        for stage in ("rollouts", "labels", "solutions", "policy", "pairs", "ppm", "promotion"):
            assert "outputs" in done[f"round-{number}/{stage}"]
        assert f"policy-{number}-ppm-{number}" in {path.name for path in (whole / "evaluation").iterdir()}
    report = (whole / "report.md").read_text()
    for section in ("Coverage", "pass@1", "PQM", "ORM", "ECE"):
        assert section in report
    assert sum(1 for _ in (whole / "plots").glob("*.png")) >= 3


def test_rivals_learn_from_the_same_rounds_as_the_ppm(whole: Path) -> None:
    done = stages(whole)
    best = max(int(name.split("/")[0].removeprefix("round-")) for name in done if name.endswith("/values"))
    for kind, file in (("ppm", "pairs"), ("pqm", "steps"), ("orm", "outcomes")):
        read = {f"round-{number}/{file}.jsonl" for number in range(1, best + 1)}
        assert set(done[f"round-{best}/{kind}"]["inputs"]) == {*read, f"round-{best}/policy"}


@pytest.mark.parametrize("number", [1, 4])
def test_the_models_of_a_round_can_be_served(whole: Path, number: int) -> None:
    folder = whole / f"round-{number}"
    problem = read_problems(whole / "problems" / "test.jsonl")[0]
    settings = {"policy_model": folder / "policy", "ppm_model": folder / "ppm"}
    with started(BUNDLED, settings) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        while client.get("/readyz").status_code != httpx.codes.OK:
            time.sleep(0.1)
        asked = {"problem": problem.question, "trajectories": 4, "seed": 1, "search": {"candidates": 4}}
        found = client.post("/solve", json=asked).raise_for_status().json()
    assert found["answer"] is not None
    assert all(step["score"] is not None for step in found["steps"])


def test_the_final_models_hold_the_fit_of_their_confidence(whole: Path) -> None:
    from server.engines.model_folder import ModelFolder

    final = ModelFolders(policy=whole / "final" / "policy", ppm=whole / "final" / "ppm")
    ids = {"policy_id": ModelFolder(final.policy).model_id, "ppm_id": ModelFolder(final.ppm).model_id}
    assert read_calibration(final.ppm, **ids) is not None


def test_a_planted_worse_model_is_refused(whole: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(whole, tmp_path / "run")
    with open_run(tmp_path / "run", RECIPE) as run:
        incumbent = _models(run, 4)
        worse = replace(incumbent, policy=run.path / "round-9" / "policy", policy_round=9)
        shutil.copytree(incumbent.policy, worse.policy)
        weights = load_file(worse.policy / "model.safetensors")
        generator = torch.Generator().manual_seed(0)
        spoilt = {name: one * torch.rand(one.shape, generator=generator).to(one.dtype) for name, one in weights.items()}
        save_file(spoilt, worse.policy / "model.safetensors", {"format": "pt"})
        assert not Evolution(RECIPE, run).is_promoted(worse, [incumbent])
        assert Evolution(RECIPE, run).is_promoted(replace(incumbent, policy_round=8), [incumbent])
    decision = json.loads((tmp_path / "run" / "round-9" / "promotion.json").read_text())
    assert decision["candidate"] < decision["incumbent"]


def _models(run: RunFolder, number: int) -> Models:
    folder = run.path / f"round-{number}"
    return Models(policy=folder / "policy", ppm=folder / "ppm", policy_round=number, ppm_round=number)


def test_a_run_killed_three_times_ends_like_a_whole_one(whole: Path, tmp_path: Path) -> None:
    trees = tmp_path / "round-1" / "trees" / "part-0.jsonl"
    kill_when(tmp_path, lambda: len(lines(trees)) >= 3)
    first = b"".join(lines(trees)[:3])
    kill_when(tmp_path, lambda: "round-2/policy" in stages(tmp_path))
    assert trees.read_bytes().startswith(first)
    finished = {path: content_hash(tmp_path / "round-1" / path) for path in (*DATA, "policy", "ppm")}
    measured = tmp_path / "evaluation" / "round-1" / "part-0.jsonl"
    kill_when(tmp_path, lambda: len(lines(measured)) >= 2)
    finish(tmp_path)
    assert finished == {path: content_hash(tmp_path / "round-1" / path) for path in finished}
    for number in ROUNDS:
        for path in DATA:
            name = f"round-{number}/{path}"
            assert content_hash(tmp_path / name) == content_hash(whole / name), name
        for model in ("policy", "ppm"):
            name = f"round-{number}/{model}/model.safetensors"
            assert content_hash(tmp_path / name) == content_hash(whole / name), name
        keys = [json.loads(line)["key"] for line in lines(tmp_path / f"round-{number}/trees/part-0.jsonl")]
        assert len(keys) == len(set(keys))
