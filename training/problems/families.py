# pyright: basic
"""Problems: mathematical ones with checkable answers, drawn from reasoning-gym in disjoint splits or read from a file.

A split is a range of generator seeds 10 million apart from the next (reasoning-gym draws item i from
`Random(seed + i)`, so nearby seeds are the same items). Small families repeat themselves all the same: a training
problem whose normalised text occurs in validation or test is dropped. Grading is the generator's own.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from search import AnswerEquality, Verdict

FAMILIES = (
    "gsm_symbolic",
    "chain_sum",
    "basic_arithmetic",
    "decimal_arithmetic",
    "simple_equations",
    "polynomial_equations",
    "gcd",
    "lcm",
    "prime_factorization",
    "fraction_simplification",
    "leg_counting",
    "simple_geometry",
    "products",
    "power_function",
    "count_primes",
    "complex_arithmetic",
    "base_conversion",
    "number_sequence",
    "time_intervals",
    "simple_integration",
)

HELD_OUT = 400
"""How many validation and test problems of each family are kept out of training, by text."""

_SEED_DISTANCE = 10_000_000

_FAMILY_OPTIONS: dict[str, dict[str, object]] = {
    # The generator's labels for its other kinds are unreliable: mixed time zones give day counts with the time of
    # day lost, and milliseconds are truncated through a float.
    "time_intervals": {"task_types": ["time", "time_seconds", "date"]},
}

_RIGHT_FROM: dict[str, float] = {
    # These two generators grade by distance; the slack is the rounding of the label itself.
    "polynomial_equations": 0.995,
    "complex_arithmetic": 0.999,
}
"""The generator's score from which an answer counts as right; 1.0 where not named."""


_GRADABLE = re.compile(r"(?!.*(?:nan|inf))[^\n]{1,200}", re.IGNORECASE)
"""One line without the numbers that compare with nothing: graders that measure a distance would take them for right."""
_PARSED = frozenset({"simple_integration"})
"""Families whose grader hands the answer to sympy's parser, which evaluates Python."""
_POLYNOMIAL = re.compile(r"(?:(?<!\*\*)\*\*\d{1,2}(?![\d*])|\d{1,12}|[xXC]|[-+/. ]|\*(?!\*))+")
"""Sums of monomials: no names but the unknown's and C, no calls, no towers of powers."""


def missing_generator() -> str | None:
    """Why no problem can be drawn here, and what helps; None where they can."""
    if find_spec("reasoning_gym") is not None:
        return None
    return "reasoning-gym, which the problems are drawn from, is not installed: run `make dev` (or add the extra train)"


class Split(StrEnum):
    """Which part of a family's problems."""

    TRAIN = "train"
    """For fine-tuning the policy."""
    SEARCH = "search"
    """For rollouts that label steps for the PPM; drawn from other seeds than TRAIN, but small families repeat."""
    VALIDATION = "validation"
    """For choosing settings."""
    TEST = "test"
    """For the reported figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem with its checkable answer."""

    family: str
    split: Split
    index: int
    """The item's index within the family and split; `(family, split, index)` names it for good."""
    question: str
    answer: str
    entry: Mapping[str, Any]
    """The generator's own record, which its grader reads."""

    @property
    def id(self) -> str:
        """A short name, unique over families and splits."""
        return f"{self.family}/{self.split}/{self.index}"


class Family:
    """One reasoning-gym generator: draws problems by split and grades answers."""

    def __init__(self, name: str) -> None:
        if name not in FAMILIES:
            raise ValueError(f"unknown problem family {name!r}; known: {', '.join(FAMILIES)}")
        self.name = name
        self._right_from = _RIGHT_FROM.get(name, 1.0)
        self._grader = self._dataset(Split.TRAIN, size=1)

    def draw(self, split: Split, count: int, *, start: int = 0) -> Iterator[Problem]:
        """Problems `start` to `start + count` of a split, without those that carry no checkable answer."""
        dataset = self._dataset(split, size=_SEED_DISTANCE // 10)
        for index in range(start, start + count):
            entry = dataset[index]
            if self.name == "gsm_symbolic":
                entry["metadata"]["story"] = dataset.task_indices[index]
            if entry["answer"].strip():
                yield Problem(
                    family=self.name,
                    split=split,
                    index=index,
                    question=entry["question"].strip(),
                    answer=entry["answer"].strip(),
                    entry=entry,
                )

    def is_right(self, answer: str, problem: Problem) -> bool:
        """Whether the generator accepts the answer. An answer that could run as code is wrong unread."""
        if not _GRADABLE.fullmatch(answer) or (self.name in _PARSED and not _POLYNOMIAL.fullmatch(answer)):
            return False
        try:
            score = self._grader.score_answer(answer, problem.entry)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return False  # some graders raise for answers that they cannot read
        return score is not None and score >= self._right_from

    def _dataset(self, split: Split, *, size: int) -> Any:
        import reasoning_gym  # serving has no need of it, and neither have the families' names

        seed = _SEED_DISTANCE * (1 + list(Split).index(split))
        return cast(Any, reasoning_gym).create_dataset(
            self.name, seed=seed, size=size, **_FAMILY_OPTIONS.get(self.name, {})
        )


def normalised(question: str) -> str:
    """The text by which two problems count as the same: case and spacing do not matter."""
    return re.sub(r"\s+", " ", question).strip().casefold()


def held_out_texts(family: Family, count: int) -> frozenset[str]:
    """Normalised texts of the first `count` validation and test problems, which training must never see."""
    return frozenset(
        normalised(problem.question)
        for split in (Split.VALIDATION, Split.TEST)
        for problem in family.draw(split, count)
    )


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
    """Problems of a JSON list of `{"index", "question", "answer"}`; the answer checker grades them."""
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
