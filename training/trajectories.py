"""Trajectories: whole solutions on disk, one JSON object a line, whoever wrote them (teacher or search)."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from training.records import read_records, write_records


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
    return write_records(path, map(asdict, trajectories))


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Read a file back."""
    for fields in read_records(path):
        fields["steps"] = tuple(fields["steps"])
        yield Trajectory(**fields)
