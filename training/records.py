"""Records: files of one JSON object a line. Knows nothing of what the objects mean."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write a file whole or not at all; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    count = 0
    with partial.open("w") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    partial.rename(path)
    return count


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file back; a last line that was cut off by a crash is passed over."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


@contextmanager
def appending(path: Path) -> Generator[Callable[[dict[str, Any]], None]]:
    """A function that adds one record at the end, on disk when it returns; what a crash had cut off is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        whole = file.read()
        file.truncate(whole.rfind(b"\n") + 1)

        def append(record: dict[str, Any]) -> None:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()

        yield append
