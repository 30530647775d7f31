"""Identity: turns a process of root into one of an ordinary user that can still read the interpreter.

Where the interpreter lies below a private folder (a home of mode 0700), the process first gets a mount namespace of its
own in which that folder is replaced by an open one holding nothing but the interpreter. The machine sees nothing of it.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

ORDINARY_UID = 64321
"""Nobody's uid: no files, no other processes, no name."""

EXIT_NO_USER = 4

_CLONE_NEWNS = 0x00020000
_MS_BIND = 4096
_MS_MOVE = 8192
_MS_REC = 16384
_MS_PRIVATE = 1 << 18


class CannotSwitch(Exception):
    """This process cannot become an ordinary user that is able to run Python."""


def become_ordinary_user(arguments: list[str]) -> None:
    """Run this command again as an ordinary user; returns if this already is one. Raises CannotSwitch."""
    if os.geteuid() != 0:
        return
    open_way()
    os.setgroups([])
    os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
    os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
    if not os.access(sys.executable, os.X_OK):
        raise CannotSwitch(f"uid {ORDINARY_UID} cannot run {sys.executable}")
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    command = [sys.executable, "-B", "-m", "tests.sandbox.hostile", *arguments]
    os.execve(sys.executable, command, {**environment, "HOME": "/nonexistent"})


def open_way() -> None:
    """For this process and those it starts: let every user reach the interpreter and the repository. Needs root."""
    needed = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path.cwd()]
    closed = [path for path in needed if _closed_ancestor(path)]
    if os.geteuid() == 0 and closed:
        _open_way(closed)


def _closed_ancestor(path: Path) -> Path | None:
    """The outermost folder above `path` through which strangers may not pass."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def _open_way(closed: list[Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
        encoded = [text.encode() if text is not None else None for text in (source, str(target), kind, options)]
        if libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]) != 0:
            raise CannotSwitch(f"cannot mount on {target}: {os.strerror(ctypes.get_errno())}")

    if libc.unshare(_CLONE_NEWNS) != 0:
        raise CannotSwitch(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    mount("none", Path("/"), None, _MS_REC | _MS_PRIVATE)
    kept: dict[Path, Path] = {}
    for path in _outermost(closed):
        kept[path] = Path(tempfile.mkdtemp(prefix="rstar-kept-"))
        mount(str(path), kept[path], None, _MS_BIND | _MS_REC)
    for folder in {_closed_ancestor(path) for path in kept} - {None}:
        assert folder is not None
        mount("none", folder, "tmpfs", 0, "mode=0755,size=1m")
    for path, place in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        mount(str(place), path, None, _MS_MOVE)
        place.rmdir()


def _outermost(paths: list[Path]) -> list[Path]:
    unique = set(paths)
    return sorted(path for path in unique if not unique & set(path.parents))
