"""Records: files of one JSON object a line, and the solutions stored in them."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One solution of one problem."""

    problem_id: str
    group: str
    """The family, or the name of the file or data set: figures are reported by group."""
    question: str
    steps: tuple[str, ...]
    """Policy texts of the code steps, in the step format, without stop tokens."""
    output: str
    """What the program printed."""
    answer: str
    is_right: bool
    source: str
    """The teacher's strategy, or the search that found it."""


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a file whole or not at all."""
    write_records(path, map(asdict, trajectories))


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Read a file back."""
    for fields in read_records(path):
        fields["steps"] = tuple(fields["steps"])
        yield Trajectory(**fields)


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    partial.rename(path)


def write_json(path: Path, content: object) -> None:
    """Write one JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    partial.rename(path)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file back; skips a last line that was cut off by a crash."""
    return (json.loads(line) for _, line in whole_lines(path))


def whole_lines(path: Path, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each line from byte `start` on, with its own place; a last line without an end is left out."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield start, line
            start += len(line)


@contextmanager
def appending(path: Path) -> Generator[Callable[[dict[str, Any]], None]]:
    """A function that adds one record at the end, on disk when it returns; removes a line cut off by a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = 0
    if path.exists():
        for start, line in whole_lines(path):
            end = start + len(line)
    with path.open("ab") as file:
        file.truncate(end)

        def append(record: dict[str, Any]) -> None:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()

        yield append
