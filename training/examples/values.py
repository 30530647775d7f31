"""Values: paths with what their score should be, for the reward models that the PPM is compared with.

A Q-value regression PRM (PQM) learns the Q of steps, and an outcome reward model (ORM) whether a whole solution is
right. Whole solutions are also read by the auxiliary loss on every token. Q here is the mean value of the trajectories
through a step: the PPM's own priors would teach the new model the old one's opinion. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search import Path, Tree
from search.codec import mapping, number, text
from training.examples.evidence import RIGHT, WRONG, merge, trajectories, walk
from training.examples.paths import path_record, read_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Valued:
    """A path, without token ids, and the score that it should have."""

    path: Path
    target: float
    """In [-1, 1]."""
    weight: float
    problem_id: str


def step_values(problem_id: str, trees: Sequence[Tree]) -> list[Valued]:
    """Every step and answer that trajectories came to, with its Q over all trees of the problem."""
    tried = (step for step in walk(merge(trees)) if step.trajectories and (step.is_code or step.answers is not None))
    return [
        Valued(path=step.path, target=step.returned / step.trajectories, weight=1.0, problem_id=problem_id)
        for step in tried
    ]


def outcome_values(problem_id: str, trees: Sequence[Tree]) -> list[Valued]:
    """Every whole solution, right (+1) or wrong (-1). Trajectories that failed are no solutions."""
    root = merge(trees)
    return [
        Valued(path=lineage[-1].path, target=target, weight=1.0, problem_id=problem_id)
        for target in (RIGHT, WRONG)
        for lineage in trajectories(root, answering=target)
    ]


def value_record(value: Valued) -> dict[str, object]:
    """A value as a JSON object."""
    return {
        "problem_id": value.problem_id,
        "target": value.target,
        "weight": value.weight,
        "path": path_record(value.path),
    }


def read_value(record: Mapping[str, object]) -> Valued:
    """Read a value back."""
    return Valued(
        path=read_path(mapping(record["path"])),
        target=number(record["target"]),
        weight=number(record["weight"]),
        problem_id=text(record["problem_id"]),
    )
