"""Problem sets for evaluation: test problems of the families, or a file of questions and answers."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from search import AnswerEquality, Verdict
from training.problems import HELD_OUT, Family, Problem, Split, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledProblem:
    """A problem and how to grade an answer to it."""

    id: str
    group: str
    """The family, or the file's name."""
    question: str
    is_right: Callable[[str], Awaitable[bool]]


class ProblemFileError(Exception):
    """The file does not hold problems as expected."""


def family_problems(name: str, count: int, *, split: Split = Split.TEST) -> list[LabelledProblem]:
    """The first `count` distinct problems of a family. Raises ValueError where training may know some of them."""
    family = Family(name)
    chosen: dict[str, Problem] = {}
    for problem in family.draw(split, HELD_OUT):
        chosen.setdefault(normalised(problem.question), problem)
        if len(chosen) == count:
            break
    else:
        raise ValueError(f"{name} has {len(chosen)} distinct problems that training never sees, fewer than {count}")
    return [_of_family(family, problem) for problem in chosen.values()]


def _of_family(family: Family, problem: Problem) -> LabelledProblem:
    async def is_right(answer: str) -> bool:
        return family.is_right(answer, problem)

    return LabelledProblem(id=problem.id, group=family.name, question=problem.question, is_right=is_right)


def file_problems(path: Path, equality: AnswerEquality, *, limit: int | None = None) -> Sequence[LabelledProblem]:
    """Problems of a JSON list of `{"index", "question", "answer"}`; equality decides what is right."""
    try:
        content: object = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ProblemFileError(f"{path}: expected a JSON list of problems ({error})") from error
    records = cast(list[object], content) if isinstance(content, list) else []
    if not records or not all(isinstance(record, dict) for record in records):
        raise ProblemFileError(f'{path}: expected a JSON list of objects with "question" and "answer"')
    return [
        _of_file(path, number, cast(dict[str, object], record), equality)
        for number, record in enumerate(records[:limit])
    ]


def _of_file(path: Path, number: int, record: dict[str, object], equality: AnswerEquality) -> LabelledProblem:
    question, answer = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ProblemFileError(f'{path}: item {number} has no text "question" and "answer"')

    async def is_right(given: str) -> bool:
        return await equality.same(given, answer) is Verdict.SAME

    return LabelledProblem(
        id=f"{path.stem}/{record.get('index', number)}", group=path.stem, question=question, is_right=is_right
    )
