# pyright: basic
"""Families: draws problems with checkable answers from the generators of reasoning-gym, in disjoint splits, by seed.

A split is a range of generator seeds 10 million apart from the next (reasoning-gym draws item i from
`Random(seed + i)`, so nearby seeds are the same items). Small families repeat themselves all the same: a training
problem whose normalised text occurs in validation or test is dropped. Grading is the generator's own, which reads its
own record of the problem; the record is drawn again where it is needed.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

from training.problems.cleaning import normalised
from training.problems.files import ProblemFileError
from training.problems.problem import GENERATOR, Problem

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

_CACHED_ENTRIES = 2_000
"""Records kept per family: more than are graded at once, and a few MB at most."""


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


_HELD_OUT = (Split.VALIDATION, Split.TEST)
_DRAWS_PER_PROBLEM = 4
"""Draws at most for each distinct problem wanted: a small family soon has nothing new."""

Entry = Mapping[str, Any]
"""The generator's own record of a problem, which its grader reads."""


class ProblemChanged(ProblemFileError):
    """The generator draws another problem by this id than it did when the problem was written down."""


class Family:
    """One reasoning-gym generator: draws problems by split and grades answers."""

    def __init__(self, name: str) -> None:
        if name not in FAMILIES:
            raise ValueError(f"unknown problem family {name!r}; known: {', '.join(FAMILIES)}")
        self.name = name
        self._right_from = _RIGHT_FROM.get(name, 1.0)
        self._datasets: dict[Split, Any] = {}
        self._drawn = lru_cache(maxsize=_CACHED_ENTRIES)(self._draw_entry)

    def draw(self, split: Split, count: int, *, start: int = 0) -> Iterator[Problem]:
        """Problems `start` to `start + count` of a split, without those that carry no checkable answer."""
        for index in range(start, start + count):
            entry = self._drawn(split, index)
            if entry["answer"].strip():
                yield Problem(
                    id=f"{self.name}/{split}/{index}",
                    group=self.name,
                    question=entry["question"].strip(),
                    answer=entry["answer"].strip(),
                    source=GENERATOR,
                )

    def entry(self, problem: Problem) -> Entry:
        """The generator's record of a problem of this family. Raises `ProblemChanged`."""
        match problem.id.split("/"):
            case [self.name, split, index]:
                entry = self._drawn(Split(split), int(index))
            case _:
                raise ValueError(f"{problem.id} is no id of the family {self.name}: expected {self.name}/SPLIT/INDEX")
        if entry["question"].strip() != problem.question:
            raise ProblemChanged(f"reasoning-gym draws another problem as {problem.id} now; use the version of before")
        return entry

    def is_right(self, answer: str, problem: Problem) -> bool:
        """Whether the generator accepts the answer. An answer that could run as code is wrong unread."""
        if not _GRADABLE.fullmatch(answer) or (self.name in _PARSED and not _POLYNOMIAL.fullmatch(answer)):
            return False
        entry = self.entry(problem)
        try:
            score = self._dataset(Split.TRAIN).score_answer(answer, entry)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return False  # some graders raise for answers that they cannot read
        return score is not None and score >= self._right_from

    def _draw_entry(self, split: Split, index: int) -> Entry:
        dataset = self._dataset(split)
        entry = dataset[index]
        if self.name == "gsm_symbolic":
            entry["metadata"]["story"] = dataset.task_indices[index]
        return entry

    def _dataset(self, split: Split) -> Any:
        import reasoning_gym  # serving has no need of it, and neither have the families' names

        if split not in self._datasets:
            self._datasets[split] = cast(Any, reasoning_gym).create_dataset(
                self.name,
                seed=_SEED_DISTANCE * (1 + list(Split).index(split)),
                size=_SEED_DISTANCE // 10,
                **_FAMILY_OPTIONS.get(self.name, {}),
            )
        return self._datasets[split]


def unseen(family: Family, split: Split, count: int) -> Iterator[Problem]:
    """Of the first `count` problems of a split, those whose text is not held out."""
    held_out = held_out_texts(family, HELD_OUT)
    return (problem for problem in family.draw(split, count) if normalised(problem.question) not in held_out)


def held_out_texts(family: Family, count: int) -> frozenset[str]:
    """Normalised texts of the first `count` validation and test problems, which training must never see."""
    return frozenset(normalised(problem.question) for split in _HELD_OUT for problem in family.draw(split, count))


def family_problems(name: str, count: int, *, split: Split = Split.TEST) -> list[Problem]:
    """The first `count` distinct problems of a split.

    To train and to search: without those held out, and fewer where the family is small. To validate and to test: raises
    ValueError where training may know some of them.
    """
    family = Family(name)
    drawn = family.draw(split, HELD_OUT) if split in _HELD_OUT else unseen(family, split, _DRAWS_PER_PROBLEM * count)
    chosen: dict[str, Problem] = {}
    for problem in drawn:
        chosen.setdefault(normalised(problem.question), problem)
        if len(chosen) == count:
            break
    if len(chosen) < count and split in _HELD_OUT:
        raise ValueError(f"{name} has {len(chosen)} distinct problems that training never sees, fewer than {count}")
    return list(chosen.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Problems of a family to be drawn."""

    family: str
    split: Split
    count: int

    @property
    def key(self) -> str:
        """Names the drawing."""
        return f"{self.family}/{self.split}/{self.count}"


class Draw:
    """The work of drawing them, see `training.workers.Work`: two families take many milliseconds a problem."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[Drawing], Awaitable[dict[str, Any]]]]:
        """Opened once in each process."""

        async def draw(drawing: Drawing) -> dict[str, Any]:
            problems = family_problems(drawing.family, drawing.count, split=drawing.split)
            return {"problems": [problem.record() for problem in problems]}

        yield draw
