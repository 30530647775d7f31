"""Folders of the bundled models. Gives their paths and does not read them."""

from dataclasses import dataclass
from pathlib import Path

BUNDLE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolders:
    """A policy and the PPM made for it; both read the same tokens."""

    policy: Path
    ppm: Path


class ModelsMissing(Exception):
    """A model folder is not there; the message names it and says what to do."""


def bundled_models(bundle: Path = BUNDLE) -> ModelFolders:
    """The models that ship. Raises `ModelsMissing`."""
    folders = ModelFolders(policy=bundle / "policy", ppm=bundle / "ppm")
    for folder in (folders.policy, folders.ppm):
        if not is_model(folder):
            raise ModelsMissing(
                f"the bundled model {folder} is missing; "
                "set RSTAR_POLICY_MODEL and RSTAR_PPM_MODEL to model folders, or install again"
            )
    return folders


def named_models(policy: Path, ppm: Path) -> ModelFolders:
    """Models of the operator's own. Raises `ModelsMissing`."""
    for name, folder in (("RSTAR_POLICY_MODEL", policy), ("RSTAR_PPM_MODEL", ppm)):
        if not is_model(folder):
            raise ModelsMissing(f"{name}: {folder} is no model folder; expected a folder with a config.json")
    return ModelFolders(policy=policy, ppm=ppm)


def is_model(folder: Path) -> bool:
    """Whether the folder looks like a model; the engine looks closer."""
    return (folder / "config.json").is_file()
