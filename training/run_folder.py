"""The run folder: what a run was started with, and which stages are finished, each named by the hashes of its files.

    run.json        recipe, code (a hash per source file), library versions; and every change that was accepted later
    manifest.json   per stage: hashes of what it read, and once it is finished of what it wrote, and seconds
    lock            held while a run works in the folder

A stage whose outputs are in the manifest is not done again. A stage that was interrupted is called again, and goes on
from what it has written so far. Never deletes results: where something does not fit, it says what and stops.
"""

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from training.recipe import Recipe
from training.records import write_json

logger = logging.getLogger(__name__)

MISSING = "missing"
"""Stands for the hash of what is not there."""

_PACKAGES = ("sandbox", "search", "server", "training")
_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "reasoning-gym", "sympy")


class RunChanged(Exception):
    """The folder was begun with another recipe or other code; the message names each change."""


class RunDamaged(Exception):
    """A file of a finished stage is not what the stage wrote, or was made from other files."""


class RunBusy(Exception):
    """Another process works in the folder."""


class RunFolder:
    """An open run folder; made by `open_run`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest_file = path / "manifest.json"
        self._manifest: dict[str, Any] = _read(self._manifest_file) or {}

    @property
    def stages(self) -> frozenset[str]:
        """Names of the stages that were begun, now or earlier."""
        return frozenset(self._manifest)

    def stage(
        self, name: str, *, inputs: Sequence[Path] = (), outputs: Sequence[Path], make: Callable[[], object]
    ) -> None:
        """Call `make`, unless the stage is finished. `inputs` and `outputs` are files or folders, the outputs below
        the run's.

        Raises `RunDamaged` where a finished stage has other inputs or outputs than the manifest says.
        """
        read = {self._name(path): content_hash(path) for path in inputs}
        entry = cast("dict[str, Any] | None", self._manifest.get(name))
        if entry is not None:
            self._check(name, entry["inputs"], read)
            if "outputs" in entry:
                self._check(name, entry["outputs"], {self._name(path): content_hash(path) for path in outputs})
                return
        self._write(name, {"inputs": read})
        logger.info("%s: %s", name, "begins" if entry is None else "goes on")
        started_s = time.monotonic()
        make()
        seconds = time.monotonic() - started_s
        written = {self._name(path): content_hash(path) for path in outputs}
        if missing := [name for name, found in written.items() if found == MISSING]:
            raise RunDamaged(f"{self.path}: the stage {name} ended without writing {', '.join(missing)}")
        self._write(name, {"inputs": read, "outputs": written, "seconds": round(seconds, 1)})
        logger.info("%s: done in %.0f s", name, seconds)

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        self._manifest[name] = entry
        write_json(self._manifest_file, self._manifest)

    def _name(self, path: Path) -> str:
        """Files outside the run are told apart by their last two names: another machine has them elsewhere."""
        inside = path.is_relative_to(self.path)
        return (path.relative_to(self.path) if inside else Path(*path.absolute().parts[-2:])).as_posix()

    def _check(self, stage: str, recorded: Mapping[str, str], found: Mapping[str, str]) -> None:
        changed = sorted(name for name in {*recorded, *found} if recorded.get(name) != found.get(name))
        if changed:
            raise RunDamaged(
                f"{self.path}: {', '.join(changed)} changed since the stage {stage} read or wrote it. Put it back. Or, "
                f"to do the stage again, remove its results and its entry in {self._manifest_file.name}"
            )


@contextmanager
def open_run(path: Path, recipe: Recipe, *, accept_changes: bool = False) -> Generator[RunFolder]:
    """Begin a run in the folder, or go on with the one that is there.

    Raises `RunChanged` where recipe or code are not those of the run, unless `accept_changes` says to go on; then the
    change is noted in run.json, and finished stages stay as they are. Raises `RunBusy`.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunBusy(f"{path}: another process is working in this folder; wait for it, or end it") from error
        _claim(path, recipe, accept_changes=accept_changes)
        yield RunFolder(path)


def _claim(path: Path, recipe: Recipe, *, accept_changes: bool) -> None:
    file = path / "run.json"
    now: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "code": code_hashes(),
        "libraries": _library_versions(),
    }
    begun = _read(file)
    if begun is None:
        write_json(file, {**now, "changes": []})
        return
    changes = list(_differences(begun, now))
    if not changes:
        return
    if not accept_changes:
        raise RunChanged(
            f"{path} was begun otherwise. Changed: {'; '.join(changes)}. "
            "Go on with --accept-changes (finished stages stay as they are), or name another folder"
        )
    logger.warning("%s: going on in spite of changes: %s", path, "; ".join(changes))
    write_json(file, {**now, "changes": [*begun["changes"], changes]})


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], *, prefix: str = "") -> Generator[str]:
    """What differs, named by dotted keys: `recipe.ppm.epochs 1.0 -> 2.0`."""
    for key in sorted((before.keys() | after.keys()) - {"changes"}):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(
                cast("dict[str, Any]", one), cast("dict[str, Any]", other), prefix=f"{prefix}{key}."
            )
        elif prefix == "code.":
            yield f"code {key}"
        else:
            yield f"{prefix}{key} {json.dumps(one)} -> {json.dumps(other)}"


def code_hashes() -> dict[str, str]:
    """Of every Python file of the packages: what the results of a run depend on beside its recipe."""
    root = Path(__file__).parent.parent
    files = sorted(file for package in _PACKAGES for file in (root / package).rglob("*.py"))
    return {file.relative_to(root).as_posix(): _file_hash(file)[:16] for file in files}


def _library_versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def content_hash(path: Path) -> str:
    """sha256 of a file, or of the names and contents of all files in a folder; `MISSING` where there is none."""
    if path.is_file():
        return _file_hash(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        return MISSING
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(path).as_posix()}\0{_file_hash(file)}\n".encode())
    return whole.hexdigest()


def _file_hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None
