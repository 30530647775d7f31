"""Visible: which files of this machine steps may see: Python's standard library, three packages, shared libraries.

Computed by the server before the zygote starts, so that mount view and Landlock show the same. Looks; hides nothing.
"""

import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass

PACKAGES = ("mpmath", "numpy", "sympy")

_OTHER_PACKAGES = ("site-packages", "dist-packages")

_SYSTEM_LIBRARIES = ("/lib", "/usr/lib")
_WIDE_LIBRARIES = ("/lib64", "/usr/lib64")
_ZONES = "/usr/share/zoneinfo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """Folders, by the paths that the interpreter uses for them."""

    standard: tuple[str, ...]
    """The standard library: what `sys.path` holds for steps."""
    packages: dict[str, str]
    """The folder of each installed package of `PACKAGES`."""
    others: tuple[str, ...]
    """Shared libraries and time zones."""

    def paths(self) -> list[str]:
        """Everything, outermost folders only."""
        wanted = sorted({os.path.realpath(path) for path in (*self.standard, *self.packages.values(), *self.others)})
        outermost: list[str] = []
        for path in wanted:
            if not outermost or not path.startswith(outermost[-1] + "/"):
                outermost.append(path)
        # A package may lie below the standard library, in a folder that is hidden: it needs an entry of its own.
        return [*outermost, *(path for path in wanted if path not in outermost and _is_below_others(path))]

    def aliases(self) -> list[str]:
        """Paths that reach a visible folder through a symbolic link."""
        everything = {*self.standard, *self.packages.values(), *self.others}
        return sorted(path for path in everything if os.path.realpath(path) != path)

    def hidden(self) -> list[str]:
        """Folders below `paths` that hold other packages."""
        found: set[str] = set()
        for path in self.paths():
            for folder in (path, *_python_folders(path)):
                candidates = (os.path.join(folder, name) for name in _OTHER_PACKAGES)
                found.update(candidate for candidate in candidates if os.path.isdir(candidate))
        return sorted(found)


def find_visible() -> Visible:
    """What this interpreter has. Finds packages without importing them."""
    standard = dict.fromkeys([sysconfig.get_path("stdlib"), _extension_folder()])
    packages: dict[str, str] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            packages[name] = os.path.realpath(next(iter(spec.submodule_search_locations)))
    bundled = (f"{folder}.libs" for folder in packages.values())
    multiarch: str | None = sysconfig.get_config_var("MULTIARCH")
    libraries = [os.path.join(folder, multiarch) for folder in _SYSTEM_LIBRARIES] if multiarch else []
    others = (*bundled, *libraries, *_WIDE_LIBRARIES, _ZONES)
    return Visible(
        standard=tuple(path for path in standard if os.path.isdir(path)),
        packages=packages,
        others=tuple(path for path in others if os.path.isdir(path)),
    )


def without(path: str, hidden: list[str]) -> Iterator[str]:
    """`path` as the largest pieces that contain nothing of `hidden`: a Landlock rule has no exceptions."""
    if path in hidden:
        return
    if not any(folder.startswith(path + "/") for folder in hidden):
        yield path
        return
    for entry in sorted(os.listdir(path)):
        yield from without(os.path.join(path, entry), hidden)


def _extension_folder() -> str:
    """Compiled standard modules; under a virtual environment `sysconfig` names the environment's own folder instead."""
    return os.path.join(sysconfig.get_path("stdlib"), "lib-dynload")


def _python_folders(path: str) -> Iterator[str]:
    with os.scandir(path) as entries:
        yield from (entry.path for entry in entries if entry.name.startswith("python") and entry.is_dir())


def _is_below_others(path: str) -> bool:
    return any(f"/{name}/" in path for name in _OTHER_PACKAGES)
