"""Records: with a folder to write to, each search leaves a file from which it can be run again offline.

A record holds the problem and everything the models and the sandbox said: it is for bug reports, and off by default. A
folder that cannot be written to costs the record, never the search.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from search import Parts, Recorder, dump_line

logger = logging.getLogger(__name__)


@contextmanager
def recorded(parts: Parts, folder: Path | None, *, search_id: str) -> Generator[Parts]:
    """The same parts; what they say is written to a file named after the search, where there is a folder."""
    file = None if folder is None else _open(folder, search_id)
    if file is None:
        yield parts
        return
    writer = RecordWriter(file)
    try:
        yield Recorder(lambda line: writer.write(dump_line(line))).wrap(parts)
    finally:
        writer.close()


def record_path(folder: Path, search_id: str) -> Path:
    """Where the record of a search lies. Ids hold no path separators."""
    return folder / f"{search_id}.jsonl"


def _open(folder: Path, search_id: str) -> IO[str] | None:
    path = record_path(folder, search_id)
    try:
        return path.open("x", encoding="ascii", buffering=1 << 16)
    except OSError as error:
        logger.warning("the search %s is not recorded: %s: %s", search_id, path, error.strerror)
        return None


class RecordWriter:
    """Writes until the first failure: a full disk is no reason to end a search."""

    def __init__(self, file: IO[str]) -> None:
        self._file: IO[str] | None = file

    def write(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Writes what is left."""
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Closing tries to write the rest once more, and closes the file although that fails again."""
        assert self._file is not None
        logger.warning("%s: the record ends early: %s", self._file.name, error.strerror)
        with suppress(OSError):
            self._file.close()
        self._file = None
