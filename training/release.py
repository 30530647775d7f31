"""The set of models that a run ends in, and its release: how it becomes the models that the server ships.

final/policy, final/ppm    the best models, the PPM with the fit of their confidence
"""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from server.bundle.folders import ModelFolders
from server.engines.calibration import write_calibration
from training.evaluation.calibration import NothingToFit, fit_calibration
from training.evaluation.measure import Models, read_measured
from training.models.job import whole_folder
from training.records import write_json

logger = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 24_000_000
"""Of a released policy and PPM together: every release stays in the repository's history."""

_MODELS = ("policy", "ppm")

_FOLDERS = re.compile(r'(?<=["=])/[^"\\]*/')
"""The folders of an absolute path, within JSON: a release does not tell where files lay on the machine that made it."""


class NotReleasable(Exception):
    """The run has no final set of models, or too large a one; the message says which."""


def write_final(best: Models, validated: Path, folder: Path) -> None:
    """Copy the models, and fit their confidence to the results on validation problems in `validated`.

    It stays unfitted where the votes on these problems are all unanimous.
    """
    assert best.ppm is not None
    measured = read_measured(validated)
    with whole_folder(folder) as final:
        for source, name in zip((best.policy, best.ppm), _MODELS, strict=True):
            shutil.copytree(source, final / name, ignore=shutil.ignore_patterns("training*"))
        folders = ModelFolders(policy=final / "policy", ppm=final / "ppm")
        try:
            write_calibration(folders, fit_calibration(measured), problems=len(measured))
        except NothingToFit as error:
            logger.warning("the confidence of the final models is not fitted: %s", error)


def release(run: Path, bundle: Path) -> None:
    """Replace the models in `bundle` by the final ones of a run, with its report and how it was made.

    The card beside them is written by hand, from the report. Raises `NotReleasable`.
    """
    final, made = run / "final", _how_made(run)
    if not {"final", "report"} <= made["stages"].keys():
        raise NotReleasable(
            f"{run} has no final models with a report: let `python -m training evolve` finish it; "
            "there are none where no round was promoted"
        )
    size = sum(file.stat().st_size for file in final.rglob("*.safetensors"))
    if size > MAX_WEIGHTS_BYTES:
        raise NotReleasable(f"the weights in {final} have {size} bytes; at most {MAX_WEIGHTS_BYTES} are released")
    for name in _MODELS:
        shutil.rmtree(bundle / name, ignore_errors=True)
        shutil.copytree(final / name, bundle / name)
    shutil.copyfile(run / "report.md", bundle / "report.md")
    write_json(bundle / "manifest.json", made)


def _how_made(run: Path) -> dict[str, Any]:
    """Recipe, libraries and accepted changes of the run; of finished stages the seconds, and hashes of what they wrote.

    Raises `NotReleasable`.
    """
    if not (run / "run.json").exists() or not (run / "manifest.json").exists():
        raise NotReleasable(f"{run} holds no run with a finished stage")
    begun, stages = (json.loads((run / name).read_text()) for name in ("run.json", "manifest.json"))
    made = {name: begun[name] for name in ("recipe", "libraries", "changes")}
    made["stages"] = {
        name: {"seconds": stage["seconds"], "outputs": stage["outputs"]}
        for name, stage in stages.items()
        if "outputs" in stage
    }
    return json.loads(_FOLDERS.sub("", json.dumps(made)))
