"""The start of a run: each kind makes or finds its models, once; what is missing is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.bundle.folders import bundled_models
from server.engines.model_folder import ModelFolder, PolicyKind
from tests.server.engines.tiny_models import save_chat_model
from training.bootstrap import Start, find_model, make_start
from training.evaluation.measure import Models
from training.recipe import Recipe, RecipeError
from training.records import Trajectory, read_records, read_trajectories, write_json, write_trajectories
from training.run_folder import content_hash, open_run

TRAINING = {"learning_rate": 1e-3, "batch_examples": 4, "max_length": 512}
PROBLEMS = {part: [{"families": ["gcd"], "count": 2}] for part in ("train", "validation", "test")}


def a_recipe(bootstrap: dict[str, Any], *, start: str = "bundle", base: str = "start", **settings: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "start": start,
            "base": base,
            "bootstrap": bootstrap,
            "problems": PROBLEMS,
            "rounds": [{"values": "terminal_guided", "candidates": 2, "passes": [{"trajectories": 2}]}],
            "policy": TRAINING,
            "ppm": TRAINING,
            "engine": {"processes": 1},
            **settings,
        }
    )


FROM_START = a_recipe({"kind": "start"})


def begin(recipe: Recipe, run: Path, models: Path | None = None) -> Start:
    """Make the start in a run folder that is opened for it."""
    with open_run(run, recipe) as opened:
        return make_start(recipe, opened, models)


def stages(run: Path) -> dict[str, Any]:
    file = run / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write_solutions(file: Path, count: int = 6) -> list[Trajectory]:
    found = [
        Trajectory(
            problem_id=f"double/{number}",
            group="double",
            question=f"What is twice {number}?",
            steps=(f"\na = {number}\n", "\nprint(a + a)\n"),
            output=str(2 * number),
            answer=str(2 * number),
            is_right=True,
            source="test",
        )
        for number in range(count)
    ]
    write_trajectories(file, found)
    return found


def write_models(folder: Path, *names: str) -> Path:
    """Folders that look like models."""
    for name in names:
        write_json(folder / name / "config.json", {"name": name})
    return folder


def first(policy: Path, ppm: Path | None = None) -> Models:
    return Models(policy=policy, ppm=ppm, policy_round=0, ppm_round=None if ppm is None else 0)


def test_the_bundled_policy_starts_as_it_is(tmp_path: Path) -> None:
    policy = bundled_models().policy
    assert begin(FROM_START, tmp_path) == Start(base=policy, models=first(policy))
    assert stages(tmp_path) == {}


@pytest.mark.slow
def test_an_instruct_model_gets_the_tokens_of_the_step_format(tmp_path: Path) -> None:
    source = save_chat_model(tmp_path / "chat")
    made = begin(a_recipe({"kind": "start"}, start=str(source)), tmp_path / "run")
    assert made.base == made.models.policy == tmp_path / "run" / "bootstrap" / "start"
    assert ModelFolder(made.base).policy_kind is PolicyKind.STEP_FORMAT
    assert ModelFolder(source).policy_kind is PolicyKind.INSTRUCT


@pytest.mark.slow
def test_few_shot_searches_with_one_model_and_trains_another(tmp_path: Path) -> None:
    instruct, run = save_chat_model(tmp_path / "chat"), tmp_path / "run"
    made = begin(a_recipe({"kind": "few_shot", "model": str(instruct)}, start=str(instruct)), run)
    assert made == Start(base=run / "bootstrap" / "start", models=first(instruct))
    assert begin(a_recipe({"kind": "few_shot", "model": str(instruct)}), tmp_path / "other").base == (
        bundled_models().policy
    )


@pytest.mark.slow
def test_the_teacher_trains_a_pupil_from_scratch(tmp_path: Path) -> None:
    bootstrap = {"kind": "teacher", "families": ["gcd"], "demonstrations": 30, "training": TRAINING}
    recipe = a_recipe(bootstrap, start="scratch", base="bootstrap")
    made = begin(recipe, tmp_path)
    folder = tmp_path / "bootstrap"
    assert made == Start(base=folder / "policy", models=first(folder / "policy"))
    assert list(stages(tmp_path)) == ["bootstrap/demonstrations", "bootstrap/start", "bootstrap/policy"]
    [file] = (folder / "demonstrations").iterdir()
    shown = list(read_trajectories(file))
    assert (file.name, {one.group for one in shown}) == ("gcd.jsonl", {"gcd"})
    assert 0 < len(shown) <= 30
    report = json.loads((folder / "policy" / "training.json").read_text())
    assert report["examples"] == len(shown)
    assert ModelFolder(folder / "policy").policy_kind is PolicyKind.STEP_FORMAT
    assert content_hash(folder / "policy" / "model.safetensors") != content_hash(folder / "start" / "model.safetensors")
    before = stages(tmp_path)
    assert begin(recipe, tmp_path) == made
    assert stages(tmp_path) == before


@pytest.mark.slow
def test_given_solutions_are_kept_and_trained_on(tmp_path: Path) -> None:
    given, run = tmp_path / "given.jsonl", tmp_path / "run"
    solutions = write_solutions(given)
    recipe = a_recipe({"kind": "solutions", "file": str(given), "training": TRAINING})
    made = begin(recipe, run)
    assert made == Start(base=bundled_models().policy, models=first(run / "bootstrap" / "policy"))
    assert list(read_trajectories(run / "bootstrap" / "demonstrations.jsonl")) == solutions
    assert json.loads((made.models.policy / "training.json").read_text())["examples"] == len(solutions)


@pytest.mark.parametrize(
    "content", [None, "no JSON\n", '{"problem_id": "a", "steps": []}\n', '{"problem_id": "a"}\n', '["a"]\n']
)
def test_a_file_that_holds_no_solutions_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "given.jsonl"
    if content is not None:
        file.write_text(content)
    recipe = a_recipe({"kind": "solutions", "file": str(file), "training": TRAINING})
    with pytest.raises(RecipeError, match=r"given\.jsonl holds no solutions .*; expected JSON lines"):
        begin(recipe, tmp_path / "run")


@pytest.mark.parametrize("base", ["start", "bootstrap"])
@pytest.mark.parametrize("names", [("policy",), ("policy", "ppm")])
def test_given_models_are_copied(tmp_path: Path, names: tuple[str, ...], base: str) -> None:
    models, run = write_models(tmp_path / "models", *names), tmp_path / "run"
    made = begin(a_recipe({"kind": "start"}, base=base), run, models)
    policy, ppm = run / "bootstrap" / "policy", run / "bootstrap" / "ppm"
    assert made.models == first(policy, ppm if "ppm" in names else None)
    assert made.base == (policy if base == "bootstrap" else bundled_models().policy)
    for name in names:
        assert content_hash(run / "bootstrap" / name) == content_hash(models / name)
    assert ppm.exists() is ("ppm" in names)


def test_a_run_needs_the_copied_models_no_more(tmp_path: Path) -> None:
    models, run = write_models(tmp_path / "models", "policy"), tmp_path / "run"
    made = begin(FROM_START, run, models)
    (models / "policy" / "config.json").write_text("changed")
    assert begin(FROM_START, run, models) == made


def test_given_models_need_a_policy(tmp_path: Path) -> None:
    models = write_models(tmp_path / "models", "ppm")
    with pytest.raises(RecipeError, match=r"models/policy is no model folder; expected models in"):
        begin(FROM_START, tmp_path / "run", models)


def test_demonstrations_are_kept_beside_given_models(tmp_path: Path) -> None:
    file, run = tmp_path / "given.jsonl", tmp_path / "run"
    write_solutions(file)
    bootstrap = {"kind": "solutions", "file": str(file), "training": TRAINING}
    recipe = a_recipe(bootstrap, examples={"demonstrations": "unsolved"})
    begin(recipe, run, write_models(tmp_path / "models", "policy"))
    assert list(read_records(run / "bootstrap" / "demonstrations.jsonl")) == list(read_records(file))


def test_a_run_with_given_models_does_not_go_on_without(tmp_path: Path) -> None:
    models, run = write_models(tmp_path / "models", "policy"), tmp_path / "run"
    begin(FROM_START, run, models)
    with pytest.raises(RecipeError, match="name it again with --models"):
        begin(FROM_START, run)


@pytest.mark.slow
def test_given_models_do_not_replace_those_that_a_run_made(tmp_path: Path) -> None:
    file, run = tmp_path / "given.jsonl", tmp_path / "run"
    write_solutions(file)
    recipe = a_recipe({"kind": "solutions", "file": str(file), "training": TRAINING})
    made = begin(recipe, run)
    before = content_hash(made.models.policy)
    with pytest.raises(RecipeError, match="leave out --models"):
        begin(recipe, run, write_models(tmp_path / "models", "policy"))
    assert content_hash(made.models.policy) == before


def test_a_model_is_found_by_its_folder_or_in_the_bundle(tmp_path: Path) -> None:
    assert find_model("bundle") == bundled_models().policy
    assert find_model(str(write_models(tmp_path, "policy") / "policy")) == tmp_path / "policy"


@pytest.mark.parametrize("name", ["nobody-here/no-such-model", "./models/not there", "/nowhere"])
def test_an_unknown_model_is_named_with_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        RecipeError, match=f"the model {name} is no folder .* cannot be downloaded .*name a model folder"
    ):
        find_model(name)
