"""Release: puts the models of a finished bootstrap in the place that the server ships them from.

Copies whole folders and nothing else; the card beside them is written by hand, from an evaluation.
"""

import shutil
from pathlib import Path

from server.engines import self_check

MAX_WEIGHTS_BYTES = 24_000_000
"""Of policy and PPM together: every release stays in the repository's history."""

_MODELS = ("policy", "ppm")
_MANIFEST = "manifest.json"
_SELF_CHECK = f"ppm/{self_check.FILE}"


class NotReleasable(Exception):
    """The folder holds no finished set of models, or too large a one; the message says which."""


def release(folder: Path, bundle: Path) -> None:
    """Replace the models and the manifest in `bundle` by those of `folder`. Raises `NotReleasable`."""
    missing = [name for name in (*_MODELS, _MANIFEST, _SELF_CHECK) if not (folder / name).exists()]
    if missing:
        raise NotReleasable(f"{folder} has no {', no '.join(missing)}; let `python -m training bootstrap` finish it")
    size = sum(file.stat().st_size for name in _MODELS for file in (folder / name).glob("*.safetensors"))
    if size > MAX_WEIGHTS_BYTES:
        raise NotReleasable(f"the weights in {folder} have {size} bytes; at most {MAX_WEIGHTS_BYTES} are released")
    for name in _MODELS:
        shutil.rmtree(bundle / name, ignore_errors=True)
        shutil.copytree(folder / name, bundle / name)
    shutil.copyfile(folder / _MANIFEST, bundle / _MANIFEST)
