"""Problem: a question with its known answer, and files of them. Never knows how to find or to grade one.

One type serves training, validation and test. A problem is written to disk with all it needs to be solved and graded
later by another process; problems of a generator are drawn again for grading, by their id.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.recipe import Label
from training.records import read_records, write_records

GENERATOR = "reasoning-gym"
"""Source of the problems that a generator draws, and grades by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem with its known answer."""

    id: str
    """Unique within a run."""
    group: str
    """The family, or the name of the file or data set: figures are reported by group."""
    question: str
    answer: str
    source: str
    """`GENERATOR`, or the file or data set."""
    label: Label = Label.EXACT
    solution: str | None = None
    """Published solution, where there is one."""


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write a file whole or not at all."""
    write_records(path, map(asdict, problems))


def read_problems(path: Path) -> list[Problem]:
    """Read a file back."""
    return [_problem(record) for record in read_records(path)]


def _problem(record: dict[str, Any]) -> Problem:
    return Problem(**{**record, "label": Label(record["label"])})
