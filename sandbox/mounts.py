"""Mounts: gives the calling process a root that holds nothing but what steps may see, read-only.

Needs a mount namespace of its own and the rights in it. No /proc, /dev or /etc; nothing writable.
"""

import os

from sandbox.libc import (
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    Libc,
)
from sandbox.visible import Visible

UNLISTED_FILE = "/unlisted/file"
"""Exists in the view but in no Landlock rule: shows whether Landlock itself refuses."""

_STAGES = ("/sys", "/mnt", "/media", "/srv", "/tmp")
"""Where the new root may be put together: any folder that hides nothing we need."""


def enter_view(libc: Libc, visible: Visible) -> None:
    """Replace the root. Raises OSError; the process is then in no state to go on."""
    paths = visible.paths()
    libc.mount("none", "/", flags=MS_REC | MS_PRIVATE)
    stage = _stage(paths)
    libc.mount("none", stage, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options="mode=0755,size=1m,nr_inodes=4k")
    for path in paths:
        target = stage + path
        os.makedirs(target, mode=0o755, exist_ok=True)
        libc.mount(path, target, flags=MS_BIND | MS_REC)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        libc.set_mount_attributes(target, attributes, is_recursive=True)
        _hide(libc, stage, path, visible)
    for alias in visible.aliases():
        _link(stage, alias)
    os.makedirs(os.path.dirname(stage + UNLISTED_FILE))
    with open(stage + UNLISTED_FILE, "w", encoding="ascii") as file:
        file.write("visible, but in no rule\n")
    os.chdir(stage)
    # Both in one place: the old root then lies on top of the new one, and is taken off.
    libc.call("pivot_root", b".", b".")
    libc.unmount(".", MNT_DETACH)
    os.chdir("/")
    libc.set_mount_attributes("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, is_recursive=False)


def _hide(libc: Libc, stage: str, path: str, visible: Visible) -> None:
    """Cover folders of other packages; those of ours that lie in one are put back where they were."""
    for folder in visible.hidden():
        if not folder.startswith(path + "/"):
            continue
        inside = [package for package in visible.paths() if package.startswith(folder + "/")]
        # The mount points must exist before the cover becomes read-only.
        libc.mount("none", stage + folder, kind="tmpfs", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC, options="mode=0755")
        for package in inside:
            os.makedirs(stage + package, mode=0o755)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        libc.set_mount_attributes(stage + folder, attributes, is_recursive=False)


def _link(stage: str, alias: str) -> None:
    target = stage + alias
    if not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.symlink(os.path.realpath(alias), target)


def _stage(paths: list[str]) -> str:
    for stage in _STAGES:
        is_needed = any(path == stage or path.startswith(stage + "/") for path in paths)
        if os.path.isdir(stage) and not is_needed:
            return stage
    raise OSError(f"no folder to build the view in: tried {', '.join(_STAGES)}")
