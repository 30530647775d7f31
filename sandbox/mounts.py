"""Mounts: the files of this machine that steps may see, and a root that holds nothing else.

The server finds the folders before the zygote starts, so that mount view and Landlock show the same: Python's standard
library, three packages, shared libraries. The view is read-only and has no /proc, /dev or /etc.
"""

import glob
import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.libc import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    Libc,
)

PACKAGES = ("mpmath", "numpy", "sympy")

UNLISTED_FILE = "/unlisted/file"
"""Exists in the view but in no Landlock rule: shows whether Landlock itself refuses."""

_OTHER_PACKAGES = ("site-packages", "dist-packages")

_SYSTEM_LIBRARIES = ("/lib", "/usr/lib")
_OTHER_FOLDERS = ("/lib64", "/usr/lib64", "/usr/share/zoneinfo")

_STAGES = ("/sys", "/mnt", "/media", "/srv", "/tmp")
"""Where the new root may be put together: any folder that hides nothing we need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleFolders:
    """The folders that steps may see, by the paths that the interpreter uses."""

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
            for folder in (path, *glob.glob(f"{glob.escape(path)}/python*")):
                candidates = (os.path.join(folder, name) for name in _OTHER_PACKAGES)
                found.update(candidate for candidate in candidates if os.path.isdir(candidate))
        return sorted(found)

    def readable(self) -> list[str]:
        """`paths` without `hidden`, as the largest pieces: a Landlock rule has no exceptions."""
        hidden = self.hidden()
        return [piece for path in self.paths() for piece in _without(path, hidden)]


def find_folders() -> VisibleFolders:
    """The folders of this interpreter. Finds packages without importing them."""
    library = sysconfig.get_path("stdlib")
    # Compiled modules: under a virtual environment `sysconfig` names the environment's own folder instead.
    standard = dict.fromkeys([library, os.path.join(library, "lib-dynload")])
    packages: dict[str, str] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            packages[name] = os.path.realpath(next(iter(spec.submodule_search_locations)))
    bundled = (f"{folder}.libs" for folder in packages.values())
    multiarch: str | None = sysconfig.get_config_var("MULTIARCH")
    libraries = [os.path.join(folder, multiarch) for folder in _SYSTEM_LIBRARIES] if multiarch else []
    return VisibleFolders(
        standard=tuple(filter(os.path.isdir, standard)),
        packages=packages,
        others=tuple(filter(os.path.isdir, (*bundled, *libraries, *_OTHER_FOLDERS))),
    )


def enter_view(libc: Libc, folders: VisibleFolders) -> None:
    """Replace the calling process's root by one that holds nothing but `folders`.

    Needs a mount namespace of its own and the rights in it. Raises OSError; the process is then in no state to go on.
    """
    paths = folders.paths()
    libc.mount("none", "/", flags=MS_REC | MS_PRIVATE)
    stage = _stage(paths)
    libc.mount("none", stage, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options="mode=0755,size=1m,nr_inodes=4k")
    for path in paths:
        target = stage + path
        os.makedirs(target, mode=0o755, exist_ok=True)
        libc.mount(path, target, flags=MS_BIND | MS_REC)
        libc.make_read_only(target, is_recursive=True)
        _hide(libc, stage, path, folders)
    for alias in folders.aliases():
        if not os.path.lexists(stage + alias):
            os.makedirs(os.path.dirname(stage + alias), mode=0o755, exist_ok=True)
            os.symlink(os.path.realpath(alias), stage + alias)
    os.makedirs(os.path.dirname(stage + UNLISTED_FILE))
    with open(stage + UNLISTED_FILE, "w", encoding="ascii") as file:
        file.write("visible, but in no rule\n")
    os.chdir(stage)
    # Both in one place: the old root then lies on top of the new one, and is taken off.
    libc.call("pivot_root", b".", b".")
    libc.detach(".")
    os.chdir("/")
    libc.make_read_only("/", is_recursive=False)


def _hide(libc: Libc, stage: str, path: str, folders: VisibleFolders) -> None:
    """Cover folders of other packages; those of ours that lie in one are put back where they were."""
    for folder in folders.hidden():
        if not folder.startswith(path + "/"):
            continue
        # The mount points must exist before the cover becomes read-only.
        libc.mount("none", stage + folder, kind="tmpfs", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC, options="mode=0755")
        for package in folders.paths():
            if package.startswith(folder + "/"):
                os.makedirs(stage + package, mode=0o755)
        libc.make_read_only(stage + folder, is_recursive=False)


def _stage(paths: list[str]) -> str:
    for stage in _STAGES:
        is_needed = any(path == stage or path.startswith(stage + "/") for path in paths)
        if os.path.isdir(stage) and not is_needed:
            return stage
    raise OSError(f"no folder to build the view in: tried {', '.join(_STAGES)}")


def _without(path: str, hidden: list[str]) -> Iterator[str]:
    """`path` as the largest pieces that contain nothing of `hidden`."""
    if path in hidden:
        return
    if not any(folder.startswith(path + "/") for folder in hidden):
        yield path
        return
    for entry in sorted(os.listdir(path)):
        yield from _without(os.path.join(path, entry), hidden)


def _is_below_others(path: str) -> bool:
    return any(f"/{name}/" in path for name in _OTHER_PACKAGES)
