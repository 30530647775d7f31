"""Problem: a question with its known answer, and files of them. Never knows how to find or to grade one.

One type serves training, validation and test. A problem is written to disk with all it needs to be solved and graded
later by another process; problems of a generator are drawn again for grading, by their id.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

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
    """Known answer; empty only where the label is to be agreed on and has not been yet."""
    source: str
    """`GENERATOR`, or the file or data set."""
    label: Label = Label.EXACT
    solution: str | None = None
    """Published solution, where there is one."""

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read back from JSON."""
        return cls(**{**record, "label": Label(record["label"])})


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write a file whole or not at all."""
    write_records(path, (problem.record() for problem in problems))


def read_problems(path: Path) -> list[Problem]:
    """Read a file back."""
    return [Problem.from_record(record) for record in read_records(path)]
