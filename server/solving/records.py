"""Records: one file for each search, from which `python -m server.replay` runs it again without models.

A record holds the problem and every output of the models and the sandbox. It is for bug reports, and off by default.
A folder that cannot be written to costs the record, never the search.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from search import OnLine, dump_line

logger = logging.getLogger(__name__)


@contextmanager
def recording(folder: Path, *, search_id: str) -> Generator[OnLine | None]:
    """Writes the lines of a record to a file in the folder; None if it cannot be made. Ids hold no path separators."""
    path = folder / f"{search_id}.jsonl"
    try:
        file = path.open("x", encoding="ascii", buffering=1 << 16)
    except OSError as error:
        logger.warning("the search %s is not recorded: %s: %s", search_id, path, error.strerror)
        yield None
        return
    writer = RecordWriter(file)
    try:
        yield lambda line: writer.write(dump_line(line))
    finally:
        writer.close()


class RecordWriter:
    """Writes until the first failure: a full disk is no reason to end a search."""

    def __init__(self, file: IO[str]) -> None:
        self._file: IO[str] | None = file

    def write(self, text: str) -> None:
        self._attempt(lambda file: file.write(text))

    def close(self) -> None:
        """Write the remaining lines."""
        self._attempt(lambda file: file.close())

    def _attempt(self, action: Callable[[IO[str]], object]) -> None:
        if self._file is None:
            return
        try:
            action(self._file)
        except OSError as error:
            logger.warning("%s: the record ends early: %s", self._file.name, error.strerror)
            # Closing tries to write the rest once more, and closes the file although that fails again.
            with suppress(OSError):
                self._file.close()
            self._file = None
