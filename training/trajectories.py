"""Trajectories: whole solutions on disk, one JSON object a line, whoever wrote them (teacher or search)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One solution of one problem."""

    problem_id: str
    family: str
    question: str
    steps: tuple[str, ...]
    """Policy texts of the code steps, in the step format, without stop tokens."""
    output: str
    """What the program printed."""
    answer: str
    is_right: bool
    source: str
    """The teacher's strategy, or the search that found it."""


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> int:
    """Write a file whole or not at all; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    count = 0
    with partial.open("w") as file:
        for trajectory in trajectories:
            file.write(json.dumps(asdict(trajectory), ensure_ascii=False) + "\n")
            count += 1
    partial.rename(path)
    return count


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Read a file back."""
    with path.open() as file:
        for line in file:
            fields = cast(dict[str, Any], json.loads(line))
            fields["steps"] = tuple(fields["steps"])
            yield Trajectory(**fields)
