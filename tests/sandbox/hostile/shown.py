"""Shown: the folders that a step may see, found without the sandbox's own list of them."""

import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path


def shown_folders() -> list[str]:
    """Python's standard library, the three packages and what they need, wherever they lie; with links and without."""
    multiarch = sysconfig.get_config_var("MULTIARCH")
    wanted = {"/unlisted", "/usr/share/zoneinfo", "/lib64", "/usr/lib64"}
    wanted |= {sysconfig.get_path("stdlib"), f"/lib/{multiarch}", f"/usr/lib/{multiarch}"}
    for name in ("mpmath", "numpy", "sympy"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            folder = str(Path(spec.origin).parent)
            wanted |= {folder, f"{folder}.libs"}
    return sorted(wanted | {os.path.realpath(folder) for folder in wanted})
