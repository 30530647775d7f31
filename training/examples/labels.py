"""Labels: what the searched trees of a problem say about it: right trajectories, difficulty, whether to drop it.

Trajectories that failed count as not right. Coverage is always counted over a fixed set of problems: one that was not
searched, or was dropped, counts as not solved. So the figures of different rounds can be compared. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from search import Node, NodeOutcome, Tree
from search.codec import integer, member, text
from training.examples.evidence import RIGHT
from training.recipe import Label

FIRST = 8
"""Trajectories of the comparison at equal effort: those of the paper's first round."""


class Difficulty(StrEnum):
    """How hard a problem is, by the share of right trajectories (the paper, section 3.4)."""

    EASY = "easy"
    """All are right."""
    MEDIUM = "medium"
    """Some are right."""
    HARD = "hard"
    """None is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """How the trajectories of one problem ended in one round."""

    problem_id: str
    label: Label
    trajectories: int
    """In all trees, failed ones included."""
    right: int
    right_of_first: int
    """Of the `FIRST` trajectories that ended first in the first tree."""

    @property
    def difficulty(self) -> Difficulty:
        """Hard without trajectories: nothing shows that the problem can be solved."""
        if self.right == 0:
            return Difficulty.HARD
        return Difficulty.EASY if self.right == self.trajectories else Difficulty.MEDIUM

    @property
    def is_doubtful(self) -> bool:
        """Whether the label is probably wrong: only agreed, and less than half of the trajectories reach it."""
        return self.label is Label.AGREED and 2 * self.right < self.trajectories


def count_outcomes(problem_id: str, trees: Sequence[Tree], *, label: Label) -> Outcomes:
    """Count over all trees of a problem, in the order they were made."""
    first = trees[0].nodes if trees else []
    early = [node for node in first if node.ends_trajectory is not None and node.ends_trajectory < FIRST]
    return Outcomes(
        problem_id=problem_id,
        label=label,
        trajectories=sum(tree.trajectories for tree in trees),
        right=sum(node.trajectories for tree in trees for node in tree.nodes if _is_right(node)),
        right_of_first=sum(map(_is_right, early)),
    )


def _is_right(node: Node) -> bool:
    return node.outcome is NodeOutcome.ANSWERED and node.terminal_value == RIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many of a set of problems are solved: have a right trajectory."""

    problems: int
    solved: int
    solved_by_first: int
    """By the `FIRST` trajectories that ended first in the first tree."""

    @property
    def share(self) -> float:
        """Solved, in [0, 1]."""
        return self.solved / self.problems

    @property
    def share_by_first(self) -> float:
        """Solved by the first trajectories, in [0, 1]."""
        return self.solved_by_first / self.problems


def coverage(outcomes: Mapping[str, Outcomes], classes: Mapping[str, str]) -> dict[str, Coverage]:
    """Coverage of each class of problems; both mappings are by problem id.

    `classes` fixes the problems and divides them: by group, or by their difficulty in one round. Outcomes of other
    problems do not count.
    """
    known = {problem_id: outcomes[problem_id] for problem_id in classes if problem_id in outcomes}
    problems = Counter(classes.values())
    solved = Counter(classes[problem_id] for problem_id, found in known.items() if found.right)
    by_first = Counter(classes[problem_id] for problem_id, found in known.items() if found.right_of_first)
    return {
        name: Coverage(problems=count, solved=solved[name], solved_by_first=by_first[name])
        for name, count in sorted(problems.items())
    }


def total(coverages: Iterable[Coverage]) -> Coverage:
    """Coverage of several classes together."""
    every = list(coverages)
    return Coverage(
        problems=sum(one.problems for one in every),
        solved=sum(one.solved for one in every),
        solved_by_first=sum(one.solved_by_first for one in every),
    )


def difficulties(outcomes: Mapping[str, Outcomes], problem_ids: Iterable[str]) -> dict[str, Difficulty]:
    """Difficulty by problem id; hard where there are no outcomes."""
    return {
        problem_id: outcomes[problem_id].difficulty if problem_id in outcomes else Difficulty.HARD
        for problem_id in problem_ids
    }


def outcomes_record(outcomes: Outcomes) -> dict[str, object]:
    """Outcomes as a JSON object."""
    return {**asdict(outcomes), "label": outcomes.label.value}


def read_outcomes(record: Mapping[str, object]) -> Outcomes:
    """Read outcomes back."""
    return Outcomes(
        problem_id=text(record["problem_id"]),
        label=member(record["label"], Label),
        trajectories=integer(record["trajectories"]),
        right=integer(record["right"]),
        right_of_first=integer(record["right_of_first"]),
    )
