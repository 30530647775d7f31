# pyright: basic
"""Data sets: reads problems from Hugging Face data sets, in a local folder or by name.

A local folder was written by `save_to_disk`, or holds files that the library reads (parquet, JSON lines, CSV). Only a
name is looked up on the internet. Rows that state no answer (proofs) are left out and counted.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from training.problems.columns import ANSWER, QUESTIONS, SOLUTIONS, UnreadableRecord, fields_of
from training.problems.files import ProblemFileError
from training.problems.problem import Problem
from training.recipe import Label

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes."""


class DatasetError(ProblemFileError):
    """The data set cannot be read, or does not hold problems in a known form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetProblems:
    """Problems of a data set."""

    problems: list[Problem]
    unanswered: int
    """Rows left out because they state no answer."""


def dataset_problems(
    name: str,
    *,
    subset: str | None = None,
    split: str = "train",
    label: Label = Label.EXACT,
    needs_answers: bool = True,
) -> DatasetProblems:
    """The problems of one split. Raises `DatasetError`."""
    group = "-".join(filter(None, (Path(name).name, subset)))
    problems: list[Problem] = []
    unanswered = 0
    with _opened(name, subset, split) as dataset:
        where = f"{name} (split {split})"
        for number, row in enumerate(_rows(dataset, where)):
            try:
                fields = fields_of(row)
            except UnreadableRecord as error:
                raise DatasetError(f"{where}, row {number}: {error}") from error
            if fields.answer is None and needs_answers:
                unanswered += 1
                continue
            problems.append(
                Problem(
                    id=f"{group}/{split}/{number}",
                    group=group,
                    question=fields.question,
                    answer=fields.answer or "",
                    source=group,
                    label=label,
                    solution=fields.solution,
                )
            )
    if not problems:
        raise DatasetError(f"{where} holds no problem with an answer in its {unanswered} rows")
    return DatasetProblems(problems=problems, unanswered=unanswered)


def _rows(dataset: "Dataset", where: str) -> Iterator[Mapping[str, object]]:
    wanted = [name for name in (*QUESTIONS, ANSWER, *SOLUTIONS) if name in dataset.column_names]
    if not set(wanted) & set(QUESTIONS) or not set(wanted) & {ANSWER, *SOLUTIONS}:
        raise DatasetError(
            f"{where} has the columns {', '.join(dataset.column_names)}; expected a question in one of "
            f"{', '.join(QUESTIONS)} and an answer in one of {', '.join((ANSWER, *SOLUTIONS))}; rename yours"
        )
    return ({name: row[name] for name in wanted} for row in dataset.select_columns(wanted).to_iterable_dataset())


@contextmanager
def _opened(name: str, subset: str | None, split: str) -> Iterator["Dataset"]:
    """The split, for as long as the context is open."""
    if find_spec("datasets") is None:
        raise DatasetError("the library `datasets` is not installed: run `make dev` (or add the extra train)")
    import datasets
    from datasets.exceptions import DatasetGenerationError

    folder = Path(name)
    if not folder.is_dir() and not _HUB_NAME.fullmatch(name):
        raise DatasetError(f"there is no folder {name}, and a data set on the internet is named OWNER/NAME")
    # The library converts the files of a folder to a format of its own first; nobody needs that copy again.
    with TemporaryDirectory(prefix="datasets-") as cache:
        try:
            if any((folder / file).exists() for file in _SAVED):
                dataset = _saved_split(folder, split)
            elif not folder.is_dir():
                dataset = datasets.load_dataset(name, subset, split=split)
            elif subset is not None and (folder / subset).is_dir():
                dataset = datasets.load_dataset(str(folder / subset), split=split, cache_dir=cache)
            else:
                dataset = datasets.load_dataset(str(folder), subset, split=split, cache_dir=cache)
        except (OSError, ValueError, DatasetGenerationError) as error:
            where = "folder" if folder.is_dir() else "no folder here, so looked for on the internet"
            raise DatasetError(f"{name} ({where}), split {split}, cannot be read: {error}") from error
        yield dataset


def _saved_split(folder: Path, split: str) -> "Dataset":
    import datasets

    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, datasets.Dataset):
        if split in saved:
            return saved[split]
        raise DatasetError(f"{folder} has no split {split}; it has {', '.join(map(str, saved))}")
    if saved.split is not None and saved.split != split:
        raise DatasetError(f"{folder} has no split {split}; it is {saved.split}")
    return saved
