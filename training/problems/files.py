"""Files: reads problems from a JSON list, or from one JSON object a line. `training.problems.columns` names the fields.

A record may carry an `id` (text, kept as it is) or an `index`; else its place in the file names it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from training.problems.columns import EXPECTED, IDS, UnreadableRecord, fields_of
from training.problems.problem import Problem
from training.recipe import Label

Record = Mapping[str, object]


class ProblemFileError(Exception):
    """The file does not hold problems as expected; the message names the file, the place and what was expected."""


def file_problems(
    path: Path, *, limit: int | None = None, label: Label = Label.EXACT, needs_answers: bool = True
) -> list[Problem]:
    """The problems of a file, the first `limit` of them. Raises `ProblemFileError`."""
    problems: list[Problem] = []
    for number, (place, record) in enumerate(file_records(path)):
        if limit is not None and number >= limit:
            break
        try:
            fields = fields_of(record)
        except UnreadableRecord as error:
            raise ProblemFileError(f"{path}, {place}: {error}") from error
        if fields.answer is None and needs_answers:
            raise ProblemFileError(f"{path}, {place}: no answer; {EXPECTED}; found {', '.join(record)}")
        problems.append(
            Problem(
                id=_id(record, default=f"{path.stem}/{number}", prefix=path.stem),
                group=path.stem,
                question=fields.question,
                answer=fields.answer or "",
                source=path.name,
                label=label,
                solution=fields.solution,
            )
        )
    if not problems:
        raise ProblemFileError(f"{path} holds no problem; {EXPECTED}")
    return problems


def _id(record: Record, *, default: str, prefix: str) -> str:
    for name in IDS:
        match record.get(name):
            case str() as text if text.strip():
                return text.strip()
            case int() as number:
                return f"{prefix}/{number}"
            case _:
                pass
    return default


def file_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Each record of a file, and where in the file it is. Raises `ProblemFileError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemFileError(f"{path} cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        items = cast(list[object], _parsed(text, path, first_line=1))
        places = ((f"item {number}", item) for number, item in enumerate(items, start=1))
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
        places = ((f"line {number}", _parsed(line, path, first_line=number)) for number, line in lines)
    for place, item in places:
        if not isinstance(item, dict):
            raise ProblemFileError(f"{path}, {place}: expected an object, found {type(item).__name__}")
        yield place, cast(dict[str, object], item)


def _parsed(text: str, path: Path, *, first_line: int) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise ProblemFileError(
            f"{path}, line {line}: no JSON ({error.msg}); expected one list of objects, or one object a line"
        ) from error
