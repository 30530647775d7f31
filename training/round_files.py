"""The files of a round: reads its trees, and writes what the pure functions of `training.examples` make of them.

trees/            the rollouts
labels.jsonl      what the trajectories of each problem came to
solutions.jsonl   what the policy learns from
perturbed/        right steps with one change that spoils the result, found by running them
pairs.jsonl       what the PPM learns from
steps.jsonl, outcomes.jsonl   what the reward models that the PPM is compared with learn from
policy/ ppm/ pqm/ orm/   the models, ready to be served
promotion.json    whether they replace the models before them
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import Tree
from training.examples.labels import Difficulty, Outcomes, count_outcomes, outcomes_record, read_outcomes
from training.examples.preferences import pair_record, pairs
from training.examples.solutions import solutions, with_fallbacks
from training.examples.values import outcome_values, step_values, value_record
from training.problems.problem import Problem
from training.recipe import Examples
from training.records import Trajectory, read_records, read_trajectories, write_records, write_trajectories
from training.rollouts import Trees
from training.workers import Results


class NothingToLearnFrom(Exception):
    """A round gave no example for the next model; the message says which, and what helps."""


@dataclass(frozen=True, slots=True)
class RoundFiles:
    """Names the files of one round of a run."""

    run: Path
    number: int
    """From 1 up."""

    @property
    def name(self) -> str:
        """The name of the round's folder, and the first part of its stages' names."""
        return f"round-{self.number}"

    @property
    def earlier(self) -> list["RoundFiles"]:
        """The rounds before, the latest first."""
        return [RoundFiles(self.run, number) for number in range(self.number - 1, 0, -1)]

    def learnt_from(self, settings: Examples) -> list["RoundFiles"]:
        """The rounds whose trees reward models learn from: this one, and those just before that the recipe wants."""
        return [self, *self.earlier[: settings.earlier_rounds]]

    def __getitem__(self, name: str) -> Path:
        """A file or folder of the round."""
        return self.run / self.name / name

    def read_trees(self, problems: Sequence[Problem]) -> Iterator[tuple[Problem, Sequence[Tree]]]:
        """Each problem with its trees, in the order of `problems`; none where it was not searched."""
        trees = Trees(self["trees"])
        return ((problem, trees.get(problem.id, ())) for problem in problems)

    def read_labels(self) -> dict[str, Outcomes]:
        """Outcomes by problem id."""
        return {found.problem_id: found for found in map(read_outcomes, read_records(self["labels.jsonl"]))}

    def trusted(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems whose label is not doubtful after this round's rollouts."""
        labels = self.read_labels()
        return [problem for problem in problems if not labels[problem.id].is_doubtful]


def write_labels(problems: Sequence[Problem], files: RoundFiles) -> None:
    """Count the outcomes of every problem."""
    found = (count_outcomes(problem.id, trees, label=problem.label) for problem, trees in files.read_trees(problems))
    write_records(files["labels.jsonl"], map(outcomes_record, found))


def write_solutions(
    problems: Sequence[Problem], files: RoundFiles, *, demonstrations: Path, settings: Examples
) -> None:
    """Choose what the policy learns from; `demonstrations` may be absent. Raises `NothingToLearnFrom`."""
    own = {
        problem.id: solutions(problem, trees, settings, source=files.name)
        for problem, trees in files.read_trees(problems)
    }
    earlier = [_by_problem(before["solutions.jsonl"]) for before in files.earlier]
    given = _by_problem(demonstrations)
    chosen = with_fallbacks(own, [own, *earlier], given, settings)
    if not chosen:
        raise NothingToLearnFrom(
            f"{files.name} solved no training problem; use easier problems, a better bootstrap, or more trajectories"
        )
    write_trajectories(files["solutions.jsonl"], chosen)


def _by_problem(file: Path) -> Mapping[str, Sequence[Trajectory]]:
    """The solutions of a file, which may be absent."""
    found: dict[str, list[Trajectory]] = {}
    for trajectory in read_trajectories(file) if file.exists() else ():
        found.setdefault(trajectory.problem_id, []).append(trajectory)
    return found


def write_pairs(problems: Sequence[Problem], files: RoundFiles, settings: Examples) -> None:
    """Choose pairs of the trees, and perturbed ones. Raises `NothingToLearnFrom` where the PPM has no pair at all."""
    changed = Results(files["perturbed"])

    def found() -> Iterator[dict[str, Any]]:
        for problem, trees in files.read_trees(problems):
            yield from map(pair_record, pairs(problem.id, trees, settings))
            if problem.id in changed:
                yield from changed[problem.id]["pairs"]

    write_records(files["pairs.jsonl"], found())
    if not any(used["pairs.jsonl"].stat().st_size for used in files.learnt_from(settings)):
        raise NothingToLearnFrom(
            f"{files.name} has no problem with right and wrong trajectories, so no pair; "
            "use harder problems, or a higher temperature"
        )


def write_values(problems: Sequence[Problem], files: RoundFiles) -> None:
    """Write what the reward models that the PPM is compared with learn from: the trees of medium problems.

    Easy and hard ones give the PPM no pairs of trajectories either.
    """
    labels = files.read_labels()
    medium = [problem for problem in problems if labels[problem.id].difficulty is Difficulty.MEDIUM]
    for name, values in (("steps.jsonl", step_values), ("outcomes.jsonl", outcome_values)):
        found = (one for problem, trees in files.read_trees(medium) for one in values(problem.id, trees))
        write_records(files[name], map(value_record, found))
