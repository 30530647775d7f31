"""Collection: reads all problems that a recipe names, cleans them, and writes them to the files that a run reads.

    train.jsonl validation.jsonl test.jsonl    the problems, in the order of the recipe's sources
    further/NAME.jsonl                         those of further test sets
    report.json                                what was read, and what was left out and why

The same recipe and the same sources give the same bytes. Families give each part the problems of a split of its own.
Of equal texts one is kept. No training problem overlaps with a problem of another part or of `apart_from`, and no
validation problem with one of a test set.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.problems.cleaning import decontaminated, deduplicated
from training.problems.datasets import dataset_problems
from training.problems.families import FAMILIES, Draw, Drawing, Split, missing_generator
from training.problems.files import ProblemFileError, file_problems
from training.problems.problem import GENERATOR, Problem, write_problems
from training.problems.report import part_report
from training.recipe import Label, Problems, ProblemSource
from training.records import write_json
from training.workers import Results, run_work

logger = logging.getLogger(__name__)

REPORT = "report.json"

_SPLITS = {"train": Split.SEARCH, "validation": Split.VALIDATION}
"""The split of the families that a part draws from; the other parts draw from `Split.TEST`. `Split.TRAIN` is for the
teacher's demonstrations."""
_KNOWN_TO = {
    "train": ("validation", "test", "further", "apart_from"),
    "validation": ("test", "further"),
}
"""The parts that a part must not overlap with."""
_PROCESSES = 4
_HELD_OUT_BYTES = 26
"""Of the 256 values of a hash's first byte: about one problem in ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What one source gave."""

    name: str
    problems: Sequence[Problem]
    unanswered: int = 0


def collect(settings: Problems, folder: Path) -> None:
    """Write the files above to `folder`. Raises `ProblemFileError` and `training.workers.WorkFailed`."""
    further = {f"further/{name}": sources for name, sources in settings.further.items()}
    named = {
        "train": settings.train,
        "validation": settings.validation,
        "test": settings.test,
        **further,
        "apart_from": settings.apart_from,
    }
    drawn = _drawn(named, folder / "drawn")
    parts = _with_unique_ids({part: list(_read_all(part, sources, drawn)) for part, sources in named.items()})
    report: dict[str, Any] = {}
    for part in named:
        if part != "apart_from":
            kept, report[part] = _cleaned(parts[part], _evaluation_sets(parts, _KNOWN_TO.get(part, ())))
            if not kept:
                raise ProblemFileError(f"no {part} problem is left; left out are {report[part]}")
            write_problems(folder / f"{part}.jsonl", kept)
            logger.info("problems: %d to %s", len(kept), part)
    write_json(folder / REPORT, report)
    shutil.rmtree(folder / "drawn", ignore_errors=True)


def _drawn(sources: Mapping[str, Sequence[ProblemSource]], folder: Path) -> Mapping[str, list[Problem]]:
    """The problems of all families by key of the drawing, made by several processes."""
    drawings = {
        drawing.key: drawing
        for part, named in sources.items()
        for source in named
        for drawing in _drawings(source, _SPLITS.get(part, Split.TEST))
    }
    if not drawings:
        return {}
    if reason := missing_generator():
        raise ProblemFileError(reason)
    processes = min(_PROCESSES, len(os.sched_getaffinity(0)))
    run_work(Draw(), drawings, folder, processes=processes, concurrency=1, label="drawing problems")
    results = Results(folder)
    return {key: [Problem.from_record(record) for record in results[key]["problems"]] for key in drawings}


def _drawings(source: ProblemSource, split: Split) -> Iterator[Drawing]:
    names = FAMILIES if source.families == "all" else source.families or ()
    if strangers := source.counts.keys() - set(names):
        raise ProblemFileError(f"counts name {', '.join(sorted(strangers))}, which is not among {', '.join(names)}")
    for name in names:
        yield Drawing(family=name, split=split, count=source.counts.get(name, source.count or 0))


def _read_all(part: str, sources: Iterable[ProblemSource], drawn: Mapping[str, list[Problem]]) -> Iterator[_Read]:
    needs_answers = part != "apart_from"
    for source in sources:
        if source.families is not None:
            keys = [drawing.key for drawing in _drawings(source, _SPLITS.get(part, Split.TEST))]
            yield _Read(name=GENERATOR, problems=[problem for key in keys for problem in drawn[key]])
        else:
            yield _selected(_read(source, needs_answers=needs_answers and source.label is Label.EXACT), source)


def _read(source: ProblemSource, *, needs_answers: bool) -> _Read:
    if source.file is not None:
        problems = file_problems(source.file, label=source.label, needs_answers=needs_answers)
        return _Read(name=problems[0].source, problems=problems)
    assert source.dataset is not None
    read = dataset_problems(
        source.dataset, subset=source.subset, split=source.split, label=source.label, needs_answers=needs_answers
    )
    return _Read(name=read.problems[0].source, problems=read.problems, unanswered=read.unanswered)


def _selected(read: _Read, source: ProblemSource) -> _Read:
    """The portion and the number of problems that the source asks for, in their order."""
    chosen = list(read.problems)
    if source.portion != "all":
        wants_held_out = source.portion == "held_out"
        chosen = [problem for problem in chosen if is_held_out(problem) is wants_held_out]
    if source.count is not None:
        sample = {problem.id for problem in sorted(chosen, key=_digest)[: source.count]}
        chosen = [problem for problem in chosen if problem.id in sample]
    return replace(read, problems=chosen)


def is_held_out(problem: Problem) -> bool:
    """Whether a problem is of the portion `held_out` of its file or data set: by the hash of its id."""
    return _digest(problem)[0] < _HELD_OUT_BYTES


def _digest(problem: Problem) -> bytes:
    return hashlib.sha256(problem.id.encode()).digest()


def _with_unique_ids(parts: Mapping[str, Sequence[_Read]]) -> dict[str, list[_Read]]:
    """Numbers an id that stands for another problem already. Those of generators stay: they name what to draw."""
    taken = {
        problem.id: problem.question
        for sources in parts.values()
        for read in sources
        for problem in read.problems
        if read.name == GENERATOR
    }
    return {
        part: [
            replace(read, problems=[replace(problem, id=_unique(problem, taken)) for problem in read.problems])
            for read in sources
        ]
        for part, sources in parts.items()
    }


def _unique(problem: Problem, taken: dict[str, str]) -> str:
    number, name = 1, problem.id
    while taken.setdefault(name, problem.question) != problem.question:
        number += 1
        name = f"{problem.id}~{number}"
    return name


def _evaluation_sets(parts: Mapping[str, Sequence[_Read]], kinds: Sequence[str]) -> dict[str, list[Problem]]:
    sets: dict[str, list[Problem]] = {}
    for part, sources in parts.items():
        if part.partition("/")[0] in kinds:
            for read in sources:
                sets.setdefault(f"{part}: {read.name}", []).extend(read.problems)
    return sets


def _cleaned(
    sources: Sequence[_Read], evaluation_sets: Mapping[str, Sequence[Problem]]
) -> tuple[list[Problem], dict[str, Any]]:
    distinct, duplicates = deduplicated([problem for read in sources for problem in read.problems])
    clean = decontaminated(distinct, evaluation_sets)
    read = {name: sum(len(one.problems) for one in sources if one.name == name) for name in _names(sources)}
    unanswered = {name: sum(one.unanswered for one in sources if one.name == name) for name in _names(sources)}
    report = part_report(read, clean.kept, duplicates=duplicates, overlaps=clean.overlaps, unanswered=unanswered)
    return clean.kept, report


def _names(sources: Sequence[_Read]) -> list[str]:
    return list(dict.fromkeys(read.name for read in sources))
