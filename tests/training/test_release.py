"""Release: the final models with their fit, copied whole or refused, and told without paths of the machine."""

import json
import shutil
from pathlib import Path

import pytest

from server.bundle.folders import bundled_models
from server.engines.calibration import FILE
from tests.training.evaluation.attempting import an_attempt
from training.evaluation.attempts import Attempt, attempts_record
from training.evaluation.measure import Models
from training.recipe import Recipe, read_recipe
from training.records import appending, write_json
from training.release import MAX_WEIGHTS_BYTES, NotReleasable, release, write_final
from training.run_folder import open_run


def recipe(folder: Path) -> Recipe:
    """With files and folders of this machine in every place that can name one."""
    settings = read_recipe("smol").model_dump(mode="json")
    settings["start"] = str(folder / "start model")
    settings["bootstrap"]["file"] = str(folder / "solutions.jsonl")
    settings["problems"]["train"][0]["file"] = str(folder / "train.jsonl")
    settings["policy"]["launch"] = ["--config_file", str(folder / "one.yaml"), f"--main={folder / 'two.yaml'}"]
    return Recipe.model_validate(settings)


def a_finished_run(run: Path, *, folder: Path, stages: tuple[str, ...] = ("final", "report")) -> None:
    """A run with final models of a few bytes; only some of its stages are finished."""
    settings = recipe(folder)
    with open_run(run, settings):
        pass
    with open_run(run, settings.model_copy(update={"start": str(folder / "other")}), accept_changes=True) as opened:
        for name in ("policy", "ppm"):
            write_json(run / "final" / name / "config.json", {"name": name})
            (run / "final" / name / "model.safetensors").write_bytes(b"12345")
        (run / "report.md").write_text("# Report\n")
        outside = folder / "start model"
        write_json(outside / "config.json", {})
        for stage in stages:
            outputs = [run / "final"] if stage == "final" else [run / "report.md"]
            opened.stage(stage, inputs=[outside], outputs=outputs, make=lambda: None)


def an_old_bundle(bundle: Path) -> None:
    for name in ("policy", "ppm"):
        write_json(bundle / name / "config.json", {"name": "old"})
        (bundle / name / "old.txt").touch()
    (bundle / "README.md").write_text("card\n")


def test_a_release_replaces_the_models_and_keeps_the_card(tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    a_finished_run(run, folder=tmp_path / "elsewhere")
    an_old_bundle(bundle)
    release(run, bundle)
    files = {file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()}
    models = {f"{name}/{file}" for name in ("policy", "ppm") for file in ("config.json", "model.safetensors")}
    assert files == {*models, "README.md", "report.md", "manifest.json"}
    assert json.loads((bundle / "ppm" / "config.json").read_text()) == {"name": "ppm"}
    assert (bundle / "README.md").read_text() == "card\n"
    assert (bundle / "report.md").read_text() == "# Report\n"


def test_the_manifest_says_how_the_models_were_made(tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    a_finished_run(run, folder=tmp_path / "elsewhere")
    release(run, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    stages = json.loads((run / "manifest.json").read_text())
    assert manifest["recipe"]["name"] == "smol"
    assert "torch" in manifest["libraries"]
    assert manifest["stages"]["final"] == {name: stages["final"][name] for name in ("seconds", "outputs")}


def test_nothing_that_is_released_holds_a_machine_path(tmp_path: Path) -> None:
    run, bundle, folder = tmp_path / "run", tmp_path / "bundle", tmp_path / "else where"
    a_finished_run(run, folder=folder)
    assert str(tmp_path) in (run / "run.json").read_text()
    release(run, bundle)
    told = (bundle / "manifest.json").read_text()
    for part in (tmp_path, folder):
        assert part.name not in told
    manifest = json.loads(told)
    assert manifest["recipe"]["bootstrap"]["file"].endswith("solutions.jsonl")
    assert manifest["recipe"]["problems"]["train"][0]["file"].endswith("train.jsonl")
    assert len(manifest["changes"]) == 1


@pytest.mark.parametrize("stages", [("final",), ("report",)])
def test_an_unfinished_run_is_not_released(tmp_path: Path, stages: tuple[str, ...]) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    a_finished_run(run, folder=tmp_path / "elsewhere", stages=stages)
    an_old_bundle(bundle)
    with pytest.raises(NotReleasable, match="no final models with a report"):
        release(run, bundle)
    assert (bundle / "policy" / "old.txt").exists()


def test_a_folder_that_is_no_run_is_not_released(tmp_path: Path) -> None:
    with pytest.raises(NotReleasable, match="holds no run with a finished stage"):
        release(tmp_path, tmp_path / "bundle")


def test_models_above_the_size_limit_are_not_released(tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    a_finished_run(run, folder=tmp_path / "elsewhere")
    with (run / "final" / "policy" / "model.safetensors").open("ab") as weights:
        weights.truncate(MAX_WEIGHTS_BYTES)
    with pytest.raises(NotReleasable, match=f"{MAX_WEIGHTS_BYTES + 5} bytes; at most {MAX_WEIGHTS_BYTES}"):
        release(run, bundle)
    assert not bundle.exists()


def validated(folder: Path, attempts: list[Attempt]) -> Path:
    """A measurement of validation problems."""
    with appending(folder / "part-0.jsonl") as append:
        for attempt in attempts:
            append({"key": attempt.problem_id, "result": attempts_record(attempt.problem_id, "a", [attempt])})
    return folder


def best_of_the_bundle(folder: Path) -> Models:
    """Copies of the bundled models, with the notes that training leaves in a model's folder."""
    models = bundled_models()
    for name, source in (("policy", models.policy), ("ppm", models.ppm)):
        shutil.copytree(source, folder / name)
        (folder / name / "training.json").touch()
        (folder / name / "training_log.jsonl").touch()
    return Models(policy=folder / "policy", ppm=folder / "ppm", policy_round=1, ppm_round=1)


def test_final_models_hold_the_fit_and_no_notes_of_training(tmp_path: Path) -> None:
    attempts = [an_attempt(f"a/{n}", right_from=1 if n % 3 else None, confidence=0.2 + n / 20) for n in range(12)]
    best = best_of_the_bundle(tmp_path / "round-1")
    write_final(best, validated(tmp_path / "validated", attempts), tmp_path / "final")
    assert json.loads((tmp_path / "final" / "ppm" / FILE).read_text())["problems"] == 12
    assert list((tmp_path / "final").rglob("training*")) == []
    assert (tmp_path / "final" / "policy" / "model.safetensors").exists()


def test_unanimous_votes_leave_the_confidence_unfitted(tmp_path: Path) -> None:
    attempts = [an_attempt(f"a/{n}", confidence=1.0) for n in range(4)]
    best = best_of_the_bundle(tmp_path / "round-1")
    write_final(best, validated(tmp_path / "validated", attempts), tmp_path / "final")
    assert (tmp_path / "final" / "ppm" / "config.json").exists()
    assert not (tmp_path / "final" / "ppm" / FILE).exists()
