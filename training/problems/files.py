"""Files: reads problems with known answers from JSON."""

import json
from pathlib import Path
from typing import cast

from training.problems.problem import Problem
from training.recipe import Label


class ProblemFileError(Exception):
    """The file does not hold problems as expected."""


def file_problems(path: Path, *, limit: int | None = None, label: Label = Label.EXACT) -> list[Problem]:
    """Problems of a JSON list of `{"index", "question", "answer"}`. Raises `ProblemFileError`."""
    try:
        content: object = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ProblemFileError(f"{path}: expected a JSON list of problems ({error})") from error
    records = cast(list[object], content) if isinstance(content, list) else []
    if not records or not all(isinstance(record, dict) for record in records):
        raise ProblemFileError(f'{path}: expected a JSON list of objects with "question" and "answer"')
    return [
        _problem(path, number, cast(dict[str, object], record), label) for number, record in enumerate(records[:limit])
    ]


def _problem(path: Path, number: int, record: dict[str, object], label: Label) -> Problem:
    question, answer = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ProblemFileError(f'{path}: item {number} has no text "question" and "answer"')
    return Problem(
        id=f"{path.stem}/{record.get('index', number)}",
        group=path.stem,
        question=question,
        answer=answer,
        source=path.name,
        label=label,
    )
