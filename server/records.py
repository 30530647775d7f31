"""Records: with a folder to write to, each search leaves a file from which it can be run again offline.

A record holds the problem and everything the models and the sandbox said: it is for bug reports, and off by default. A
folder that cannot be written to costs the record, never the search.
"""

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from search import Parts, Recorder, dump_line

logger = logging.getLogger(__name__)


@contextmanager
def recorded(parts: Parts, folder: Path | None, *, search_id: str) -> Generator[Parts]:
    """The same parts; what they say is written to a file named after the search, where there is a folder."""
    with ExitStack() as stack:
        file = None if folder is None else _open(folder, search_id, stack)
        if file is None:
            yield parts
            return
        writer = _Writer(file)
        yield Recorder(lambda line: writer.write(dump_line(line))).wrap(parts)


def record_path(folder: Path, search_id: str) -> Path:
    """Where the record of a search lies. Ids hold no path separators."""
    return folder / f"{search_id}.jsonl"


def _open(folder: Path, search_id: str, stack: ExitStack) -> IO[str] | None:
    path = record_path(folder, search_id)
    try:
        return stack.enter_context(path.open("x", encoding="ascii", buffering=1 << 16))
    except OSError as error:
        logger.warning("the search %s is not recorded: %s: %s", search_id, path, error.strerror)
        return None


class _Writer:
    """Writes until the first failure: a full disk is no reason to end a search."""

    def __init__(self, file: IO[str]) -> None:
        self._file: IO[str] | None = file

    def write(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
        except OSError as error:
            logger.warning("%s: the record ends early: %s", self._file.name, error.strerror)
            self._file = None
