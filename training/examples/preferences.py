"""Preference pairs: which of two paths the PPM should score higher, read off searched trees (rStar-Math, section 3.3).

A **positive** is a step that leads to a right answer, a **negative** one that leads to wrong answers only. Both were
tried by trajectories, and their code ran. All trees of a problem are judged together, so no step is ever on both sides.

- Step pairs share their prefix: the positives of highest Q against the negatives of lowest Q among a step's successors.
- Answer pairs drop the prefix rule: the right trajectories of highest mean Q against the wrong ones of lowest mean Q.
- Parted pairs belong to the same trajectories. The paper compares only their final steps. Here each step after the two
  have parted is compared with its counterpart as well: siblings that all agree (printing the result) give no step pair,
  and the PPM would be free to score them anyhow.

Q ranks, and is never a regression target. Problems whose answers are all right, or all wrong, give no pairs. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from search import Path, Tree
from search.codec import number, text
from training.examples.evidence import RIGHT, WRONG, Evidence, Lineage, mean_value, merge, trajectories, walk
from training.examples.paths import read_steps, steps_record
from training.recipe import Examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`better` should score higher than `worse`; both are paths of one problem, without token ids."""

    better: Path
    worse: Path
    weight: float
    """1 over the pairs of the node: every node counts the same, however many pairs it gives."""
    problem_id: str


_Sides: TypeAlias = tuple[Evidence, Evidence]
"""A better and a worse step."""


def pairs(problem_id: str, trees: Sequence[Tree], settings: Examples) -> list[Pair]:
    """All pairs of one problem, from trees whose terminal values are +1 (right) and -1 (wrong)."""
    root = merge(trees)
    groups = [*step_pairs(root, settings), answer_pairs(root, settings), parted_pairs(root, settings)]
    return [
        Pair(better=better.path, worse=worse.path, weight=1 / len(group), problem_id=problem_id)
        for group in groups
        for better, worse in group
    ]


def is_positive(step: Evidence) -> bool:
    """A code step that led a trajectory to a right answer."""
    return step.is_code and step.leads_right


def is_negative(step: Evidence) -> bool:
    """A code step that led trajectories to wrong answers, and below which no right answer is known at all."""
    return step.is_code and step.leads_wrong and not step.may_lead_right


def step_pairs(root: Evidence, settings: Examples) -> Iterator[list[_Sides]]:
    """The pairs of successors of each step."""
    for step in walk(root):
        positives = _highest(filter(is_positive, step.children), settings.per_side)
        negatives = _lowest(filter(is_negative, step.children), settings.per_side)
        yield [(one, other) for one, other in product(positives, negatives) if _differ(one, other, settings)]


def answer_pairs(root: Evidence, settings: Examples) -> list[_Sides]:
    """Right answers against wrong ones, at the ends of whole trajectories."""
    return [(right[-1], wrong[-1]) for right, wrong in _opposed(root, settings)]


def parted_pairs(root: Evidence, settings: Examples) -> list[_Sides]:
    """Steps of equal depth of the trajectories of answer pairs, from the second step after they have parted.

    The first one after it is compared in step pairs.
    """
    found: dict[tuple[int, int], _Sides] = {}
    for right, wrong in _opposed(root, settings):
        apart = [(one, other) for one, other in zip(right, wrong, strict=False) if one is not other]
        for better, worse in apart[1:]:
            if is_positive(better) and is_negative(worse) and _differ(better, worse, settings):
                found[id(better), id(worse)] = better, worse
    return list(found.values())


def _opposed(root: Evidence, settings: Examples) -> list[tuple[Lineage, Lineage]]:
    """The best right trajectories, each with each of the worst wrong ones. Ties: the first found."""
    right = sorted(trajectories(root, answering=RIGHT), key=mean_value, reverse=True)
    wrong = sorted(trajectories(root, answering=WRONG), key=mean_value)
    return list(product(right[: settings.per_side], wrong[: settings.per_side]))


def _differ(better: Evidence, worse: Evidence, settings: Examples) -> bool:
    return better.value - worse.value >= settings.margin


def _highest(steps: Iterable[Evidence], count: int) -> list[Evidence]:
    """By Q; of equals, those tried most often."""
    return sorted(steps, key=lambda step: (-step.value, -step.trajectories))[:count]


def _lowest(steps: Iterable[Evidence], count: int) -> list[Evidence]:
    return sorted(steps, key=lambda step: (step.value, -step.trajectories))[:count]


def pair_record(pair: Pair) -> dict[str, object]:
    """A pair as a JSON object; the steps that both paths begin with are written once."""
    better, worse = pair.better.steps, pair.worse.steps
    shared = 0
    while shared < min(len(better), len(worse)) and better[shared] == worse[shared]:
        shared += 1
    return {
        "problem_id": pair.problem_id,
        "problem": pair.better.problem,
        "weight": pair.weight,
        "prefix": steps_record(better[:shared]),
        "better": steps_record(better[shared:]),
        "worse": steps_record(worse[shared:]),
    }


def read_pair(record: Mapping[str, object]) -> Pair:
    """Read a pair back."""
    problem, prefix = text(record["problem"]), read_steps(record["prefix"])
    return Pair(
        better=Path(problem=problem, steps=prefix + read_steps(record["better"])),
        worse=Path(problem=problem, steps=prefix + read_steps(record["worse"])),
        weight=number(record["weight"]),
        problem_id=text(record["problem_id"]),
    )
