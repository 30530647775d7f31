"""A release holds whole sets of models, and small ones."""

from pathlib import Path

import pytest

from training.bootstrap import MAX_WEIGHTS_BYTES, NotReleasable, release


def _finished(folder: Path, *, weights_bytes: int = 10) -> Path:
    for name in ("policy", "ppm"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
        with (folder / name / "model.safetensors").open("wb") as file:
            file.truncate(weights_bytes)
    (folder / "ppm" / "self_check.json").write_text("{}")
    (folder / "manifest.json").write_text('{"ppm": 1}')
    return folder


def test_a_release_replaces_the_models_before_it(tmp_path: Path) -> None:
    bundle = _finished(tmp_path / "bundle", weights_bytes=20)
    (bundle / "policy" / "old.json").write_text("{}")
    (bundle / "README.md").write_text("card")
    release(_finished(tmp_path / "run"), bundle)
    names = sorted(str(file.relative_to(bundle)) for file in bundle.rglob("*") if file.is_file())
    assert names == [
        *("README.md", "manifest.json", "policy/config.json", "policy/model.safetensors"),
        *("ppm/config.json", "ppm/model.safetensors", "ppm/self_check.json"),
    ]
    assert (bundle / "ppm" / "model.safetensors").stat().st_size == 10


def test_an_unfinished_run_leaves_the_bundle_alone(tmp_path: Path) -> None:
    run = _finished(tmp_path / "run")
    (run / "manifest.json").unlink()
    bundle = _finished(tmp_path / "bundle", weights_bytes=20)
    with pytest.raises(NotReleasable, match=r"has no manifest.json"):
        release(run, bundle)
    assert (bundle / "policy" / "model.safetensors").stat().st_size == 20


def test_too_large_weights_are_refused(tmp_path: Path) -> None:
    run = _finished(tmp_path / "run", weights_bytes=MAX_WEIGHTS_BYTES // 2 + 1)
    with pytest.raises(NotReleasable, match="24000002 bytes; at most 24000000"):
        release(run, tmp_path / "bundle")
