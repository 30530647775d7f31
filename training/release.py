"""The set of models that a run ends in, and its release: how it becomes the models that the server ships.

final/policy, final/ppm    the best models, the PPM with the fit of their confidence
"""

import json
import shutil
from pathlib import Path

from server.bundle.folders import ModelFolders
from server.engines.calibration import write_calibration
from training.evaluation.calibration import fit_calibration
from training.evaluation.measure import Models, read_measured
from training.models.job import whole_folder
from training.records import write_json

MAX_WEIGHTS_BYTES = 24_000_000
"""Of a released policy and PPM together: every release stays in the repository's history."""

_MODELS = ("policy", "ppm")


class NotReleasable(Exception):
    """The run has no final set of models, or too large a one; the message says which."""


def write_final(best: Models, validated: Path, folder: Path) -> None:
    """Copy the models, and fit their confidence to the results on validation problems in `validated`."""
    assert best.ppm is not None
    measured = read_measured(validated)
    with whole_folder(folder) as final:
        for source, name in zip((best.policy, best.ppm), _MODELS, strict=True):
            shutil.copytree(source, final / name, ignore=shutil.ignore_patterns("training*"))
        folders = ModelFolders(policy=final / "policy", ppm=final / "ppm")
        write_calibration(folders, fit_calibration(measured), problems=len(measured))


def release(run: Path, bundle: Path) -> None:
    """Replace the models in `bundle` by the final ones of a run, with its report and how it was made.

    The card beside them is written by hand, from the report. Raises `NotReleasable`.
    """
    final = run / "final"
    if not final.exists() or not (run / "report.md").exists():
        raise NotReleasable(f"{run} has no final models and report; let `python -m training evolve` finish it")
    size = sum(file.stat().st_size for file in final.rglob("*.safetensors"))
    if size > MAX_WEIGHTS_BYTES:
        raise NotReleasable(f"the weights in {final} have {size} bytes; at most {MAX_WEIGHTS_BYTES} are released")
    begun, stages = (json.loads((run / name).read_text()) for name in ("run.json", "manifest.json"))
    for name in _MODELS:
        shutil.rmtree(bundle / name, ignore_errors=True)
        shutil.copytree(final / name, bundle / name)
    shutil.copyfile(run / "report.md", bundle / "report.md")
    made = {name: begun[name] for name in ("recipe", "libraries")}
    write_json(bundle / "manifest.json", {**made, "seconds": {name: one["seconds"] for name, one in stages.items()}})
