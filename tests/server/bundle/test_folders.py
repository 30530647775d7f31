"""The bundle: models that are missing are named."""

import json
from pathlib import Path

import pytest

from server.bundle.folders import BUNDLE, ModelsMissing, bundled_models, named_models


def _model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_bundled_models_are_two_folders(tmp_path: Path) -> None:
    policy, ppm = _model(tmp_path / "policy"), _model(tmp_path / "ppm")
    assert (bundled_models(tmp_path).policy, bundled_models(tmp_path).ppm) == (policy, ppm)


def test_a_missing_bundled_model_is_named_with_a_way_out(tmp_path: Path) -> None:
    _model(tmp_path / "policy")
    with pytest.raises(ModelsMissing, match=r"ppm is missing; set RSTAR_POLICY_MODEL and RSTAR_PPM_MODEL"):
        bundled_models(tmp_path)


def test_a_folder_without_a_model_is_refused_by_its_setting(tmp_path: Path) -> None:
    policy = _model(tmp_path / "mine")
    with pytest.raises(ModelsMissing, match=r"RSTAR_PPM_MODEL: .*/nothing is no model folder"):
        named_models(policy, tmp_path / "nothing")


def test_the_bundled_weights_are_small_and_bfloat16() -> None:
    models = bundled_models()
    weights = [folder / "model.safetensors" for folder in (models.policy, models.ppm)]
    assert sum(file.stat().st_size for file in weights) <= 24_000_000
    for folder in (models.policy, models.ppm):
        assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_bundle_says_how_it_was_made() -> None:
    manifest = json.loads((BUNDLE / "manifest.json").read_text())
    assert manifest["ppm"]["pairs"] > 0
    assert len(manifest["config"]["families"]) == len(manifest["demonstrations"]) == 20
    assert "misconception" in (BUNDLE / "README.md").read_text()
