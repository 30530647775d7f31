"""The run folder: stages once, changes named, damage found."""

import json
from pathlib import Path

import pytest

from training.recipe import Recipe
from training.run_folder import RunBusy, RunChanged, RunDamaged, RunFolder, content_hash, open_run

RECIPE = Recipe.model_validate(
    {
        "name": "test",
        "start": "bundle",
        "base": "start",
        "bootstrap": {"kind": "start"},
        "problems": {name: [{"families": ["gcd"], "count": 2}] for name in ("train", "validation", "test")},
        "rounds": [{"values": "terminal_guided", "candidates": 2, "passes": [{"trajectories": 2}]}],
        "policy": {"learning_rate": 1e-3, "batch_examples": 2},
        "ppm": {"learning_rate": 1e-3, "batch_examples": 2},
    }
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def upper(run: RunFolder, made: list[str]) -> None:
    """A stage that reads a.txt and writes b/b.txt."""
    source, target = run.path / "a.txt", run.path / "b"

    def make() -> None:
        made.append("b")
        write(target / "b.txt", source.read_text().upper())

    run.stage("upper", inputs=[source], outputs=[target], make=make)


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    made: list[str] = []
    write(tmp_path / "a.txt", "text")
    for _ in range(2):
        with open_run(tmp_path, RECIPE) as run:
            upper(run, made)
    assert made == ["b"]
    entry = json.loads((tmp_path / "manifest.json").read_text())["upper"]
    assert entry["outputs"] == {"b": content_hash(tmp_path / "b")}


def test_an_interrupted_stage_is_called_again(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text")

    def fail() -> None:
        raise KeyboardInterrupt

    with open_run(tmp_path, RECIPE) as run, pytest.raises(KeyboardInterrupt):
        run.stage("upper", inputs=[tmp_path / "a.txt"], outputs=[tmp_path / "b"], make=fail)
    made: list[str] = []
    with open_run(tmp_path, RECIPE) as run:
        upper(run, made)
    assert made == ["b"]


def test_an_interrupted_stage_goes_on_with_its_own_inputs(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text")

    def fail() -> None:
        raise KeyboardInterrupt

    with open_run(tmp_path, RECIPE) as run, pytest.raises(KeyboardInterrupt):
        run.stage("upper", inputs=[tmp_path / "a.txt"], outputs=[tmp_path / "b"], make=fail)
    write(tmp_path / "a.txt", "other")
    with open_run(tmp_path, RECIPE) as run, pytest.raises(RunDamaged, match=r"a\.txt changed"):
        upper(run, [])


def test_a_stage_that_writes_nothing_is_not_finished(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE) as run, pytest.raises(RunDamaged, match="ended without writing b"):
        run.stage("lazy", outputs=[tmp_path / "b"], make=lambda: None)


@pytest.mark.parametrize("file", ["a.txt", "b/b.txt", "b/new.txt"])
def test_a_changed_file_of_a_finished_stage_is_named(tmp_path: Path, file: str) -> None:
    write(tmp_path / "a.txt", "text")
    with open_run(tmp_path, RECIPE) as run:
        upper(run, [])
    write(tmp_path / file, "other")
    with (
        open_run(tmp_path, RECIPE) as run,
        pytest.raises(RunDamaged, match=f"{file[0]}.* changed since"),
    ):
        upper(run, [])


def test_inputs_from_outside_may_lie_elsewhere(tmp_path: Path) -> None:
    made: list[str] = []
    run_path = tmp_path / "run"
    for place in ("here", "there"):
        policy = tmp_path / place / "models" / "policy"
        write(policy, "weights")
        with open_run(run_path, RECIPE) as run:

            def make(place: str = place) -> None:
                made.append(place)
                write(run_path / "out", "made")

            run.stage("one", inputs=[policy], outputs=[run_path / "out"], make=make)
    assert made == ["here"]
    assert list(json.loads((run_path / "manifest.json").read_text())["one"]["inputs"]) == ["models/policy"]


def test_a_changed_recipe_is_named_and_accepted_if_asked(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        pass
    other = RECIPE.model_copy(update={"seed": 7})
    with (
        pytest.raises(RunChanged, match=r"recipe\.seed 1 -> 7\. Go on with --accept-changes"),
        open_run(tmp_path, other),
    ):
        pass
    with open_run(tmp_path, other, accept_changes=True):
        pass
    with open_run(tmp_path, other):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["changes"] == [["recipe.seed 1 -> 7"]]


def test_changed_code_is_named_by_file(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        pass
    begun = json.loads((tmp_path / "run.json").read_text())
    begun["code"]["search/tree.py"] = "0"
    write(tmp_path / "run.json", json.dumps(begun))
    with pytest.raises(RunChanged, match=r"Changed: code search/tree\.py\. "), open_run(tmp_path, RECIPE):
        pass


def test_two_runs_never_work_in_one_folder(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE), pytest.raises(RunBusy), open_run(tmp_path, RECIPE):
        pass
