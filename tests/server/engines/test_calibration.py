"""The stored calibration: read back for the same models, refused for others, an error where it is damaged."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path as FilePath

import pytest

from search import Calibration, Selection, Strategy
from server.bundle.folders import ModelFolders
from server.engines.calibration import FILE, read_calibration, write_calibration
from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder

FIT = Calibration(scale=0.8, budget_slope=0.3, offset=-0.5)


@pytest.fixture
def folders(tmp_path: FilePath) -> ModelFolders:
    """Two models, as far as a hash sees them."""
    folders = ModelFolders(policy=tmp_path / "policy", ppm=tmp_path / "ppm")
    for folder in (folders.policy, folders.ppm):
        folder.mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (folder / name).write_text(f"{name} of the {folder.name}")
    write_calibration(folders, FIT, problems=700, figures={"test_ece_fitted": 0.03})
    return folders


def read(folders: ModelFolders) -> Calibration | None:
    """As a server reads it that runs these folders itself."""
    ids = [ModelFolder(folder).model_id for folder in (folders.policy, folders.ppm)]
    return read_calibration(folders.ppm, policy_id=ids[0], ppm_id=ids[1])


def test_a_fit_is_read_for_the_models_it_was_made_for(folders: ModelFolders) -> None:
    assert read(folders) == FIT
    stored = json.loads((folders.ppm / FILE).read_text())
    assert stored["policy_sha256"] == ModelFolder(folders.policy).content_hash
    assert (stored["problems"], stored["figures"]) == (700, {"test_ece_fitted": 0.03})


def test_a_fit_keeps_its_strategy_and_selection(folders: ModelFolders) -> None:
    fit = Calibration(scale=1.0, budget_slope=0.0, offset=0.0, strategy=Strategy.MAJORITY, selection=Selection.MAJORITY)
    write_calibration(folders, fit, problems=1)
    assert read(folders) == fit


def test_models_may_move_with_their_fit(folders: ModelFolders, tmp_path: FilePath) -> None:
    moved = ModelFolders(policy=tmp_path / "base", ppm=tmp_path / "judge")
    shutil.move(folders.policy, moved.policy)
    shutil.move(folders.ppm, moved.ppm)
    assert read(moved) == FIT


def test_without_a_file_there_is_no_fit(folders: ModelFolders, caplog: pytest.LogCaptureFixture) -> None:
    (folders.ppm / FILE).unlink()
    assert read(folders) is None
    assert caplog.records == []


@pytest.mark.parametrize("model", ["policy", "ppm"])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", VALUE_HEAD_FILE])
def test_a_fit_of_other_models_is_not_used_and_logged(
    folders: ModelFolders, caplog: pytest.LogCaptureFixture, model: str, name: str
) -> None:
    folder = folders.policy if model == "policy" else folders.ppm
    (folder / name).write_text("retrained")
    with caplog.at_level(logging.WARNING):
        assert read(folders) is None
    (record,) = caplog.records
    assert "the confidence is not fitted" in record.getMessage()
    assert ModelFolder(folder).model_id in record.getMessage()


@pytest.mark.parametrize("address", ["gpu:8000", "", "0"])
def test_a_model_on_another_server_has_no_fit(folders: ModelFolders, address: str) -> None:
    ppm_id = ModelFolder(folders.ppm).model_id
    assert read_calibration(folders.ppm, policy_id=f"policy@{address}", ppm_id=ppm_id) is None


COEFFICIENTS = asdict(FIT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration": None}, "calibration: Input should be an object"),
        ({"ppm_sha256": None}, "ppm_sha256: Input should be a valid string"),
        ({"version": 2}, "version: Input should be 1"),
        ({"policy_sha256": "4be1"}, "policy_sha256: String should match pattern"),
        ({"mood": "good"}, "mood: Extra inputs are not permitted"),
        ({"calibration": {**COEFFICIENTS, "scale": "0.8"}}, "calibration.scale: Input should be a valid number"),
        ({"calibration": {**COEFFICIENTS, "scale": -1.0}}, "scale must be at least 0"),
        ({"calibration": {**COEFFICIENTS, "slope": 1.0}}, "calibration.slope: Extra inputs"),
        ({"calibration": {**COEFFICIENTS, "strategy": "guess"}}, "calibration.strategy: Input should be 'mcts'"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    folders: ModelFolders, change: Mapping[str, object], message: str
) -> None:
    stored = json.loads((folders.ppm / FILE).read_text())
    (folders.ppm / FILE).write_text(json.dumps({**stored, **change}))
    with pytest.raises(CheckpointError) as refused:
        read(folders)
    assert str(refused.value).startswith(f"{folders.ppm / FILE}: unreadable ({message}")
    assert str(refused.value).endswith("; write it again, or delete it")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_json_object_is_refused(folders: ModelFolders, content: bytes) -> None:
    (folders.ppm / FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="unreadable"):
        read(folders)
