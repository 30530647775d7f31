"""The stored calibration: the fit of the confidence, in the PPM's folder, with hashes of the two models it holds for.

    {"version": 1,
     "calibration": {"scale": 0.9, "budget_slope": 0.2, "offset": -0.4,
                     "strategy": "mcts", "selection": "weighted_vote"},
     "policy_sha256": "4be1…", "ppm_sha256": "90c2…",
     "problems": 700, "figures": {"test_ece_unfitted": 0.11, "test_ece_fitted": 0.03}}

Training writes it, and the server reads it at its start. A fit for other models is never used: served with another
policy or PPM, an answer with the same vote share is right more often, or less often. The weights of a model on a
server elsewhere cannot be seen from here, so with such a model the confidence is not fitted. Never makes a fit.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search import Calibration, Selection, Strategy
from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.model_folder import ModelFolder, has_content

logger = logging.getLogger(__name__)

FILE = "calibration.json"

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Coefficients(_Stored):
    scale: float
    budget_slope: float
    offset: float
    strategy: Strategy
    selection: Selection


class _File(_Stored):
    version: Literal[1] = 1
    calibration: _Coefficients
    policy_sha256: _Sha256
    """See `ModelFolder.content_hash`."""
    ppm_sha256: _Sha256
    problems: Annotated[int, Field(ge=1)]
    """Problems of the fit."""
    figures: dict[str, float]
    """What was measured of the fit, by name; for readers only."""


def write_calibration(
    folders: ModelFolders, calibration: Calibration, *, problems: int, figures: Mapping[str, float] | None = None
) -> None:
    """Write the fit into the PPM's folder; an older one is replaced. Call it when the weights of both are final.

    `problems` is the number of problems of the fit. `figures` are what was measured of it, such as errors on test.
    """
    content = _File(
        calibration=_Coefficients(**asdict(calibration)),
        policy_sha256=ModelFolder(folders.policy).content_hash,
        ppm_sha256=ModelFolder(folders.ppm).content_hash,
        problems=problems,
        figures=dict(figures or {}),
    )
    text = json.dumps(content.model_dump(mode="json"), indent=1)
    (folders.ppm / FILE).write_text(text + "\n", encoding="utf-8")


def read_calibration(folder: FilePath, *, policy_id: str, ppm_id: str) -> Calibration | None:
    """The fit in a PPM's folder, where it was made for the models served, given by their engines' ids.

    None where there is none, and, with a warning, where it was made for others. Raises `CheckpointError` for a file
    that is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        stored = _File.model_validate_json(file.read_bytes())
        calibration = Calibration(**stored.calibration.model_dump())
    except ValueError as error:
        raise CheckpointError(f"{file}: unreadable ({_reason(error)}); write it again, or delete it") from error
    if has_content(policy_id, stored.policy_sha256) and has_content(ppm_id, stored.ppm_sha256):
        return calibration
    logger.warning(
        "the confidence is not fitted: %s is for the policy %.12s and the PPM %.12s, not for %s and %s",
        *(file, stored.policy_sha256, stored.ppm_sha256, policy_id, ppm_id),
    )
    return None


def _reason(error: ValueError) -> str:
    """The first thing that is wrong, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
