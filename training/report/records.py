"""Run records: what a run folder holds about its rounds and measurements, for the report. Only reads.

    problems/train.jsonl    problems and their groups; agreement/train.jsonl in its place where there is one
    round-N/labels.jsonl    how the rollouts of each problem ended
    round-N/promotion.json  whether the models of the round replaced the ones before them
    evaluation/*/           measurements, each with an about.json
    manifest.json           seconds by stage
    run.json                recipe, code and libraries

Every file may be absent: a run may have been stopped, and a small one measures less.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.evaluation.figures import Measured, methods_of
from training.evaluation.measure import ABOUT, read_measured
from training.evaluation.solutions import Method
from training.examples.labels import Outcomes, read_outcomes
from training.problems.problem import read_problems
from training.records import read_records

TEST = "test"
VALIDATION = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One measurement of the run."""

    name: str
    split: str
    policy_round: int | None
    ppm_round: int | None
    ppm_kind: str | None
    """None without a reward model."""
    trajectories: int
    measured: Measured

    @property
    def search(self) -> Method:
        """Its tree search: with the reward model, or with none."""
        return Method.MCTS_CONSTANT if self.ppm_kind is None else Method.MCTS

    def has(self, *methods: Method) -> bool:
        """Whether all of these were measured on every problem."""
        return set(methods) <= set(methods_of(self.measured))


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The decision on the models of one round."""

    round: int
    over_round: int
    candidate: float
    incumbent: float
    """Shares of validation problems solved."""
    problems: int
    is_promoted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """All of them."""

    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    """Group by training problem."""
    labels: Mapping[int, Mapping[str, Outcomes]] = field(default_factory=dict[int, Mapping[str, Outcomes]])
    """Outcomes by round and training problem."""
    promotions: Sequence[Promotion] = ()
    evaluations: Sequence[Evaluation] = ()
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """By stage."""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The content of run.json."""

    @property
    def best_round(self) -> int | None:
        """The last round whose models were promoted; else the first that was measured. None without rounds."""
        promoted = [one.round for one in self.promotions if one.is_promoted]
        measured = [one.policy_round for one in self.evaluations if one.policy_round is not None]
        return promoted[-1] if promoted else min(measured, default=None)

    def rounds(self, split: str = TEST) -> dict[int, Evaluation]:
        """The measurement of each round's own models on a split, by round: the largest one."""
        found: dict[int, Evaluation] = {}
        for one in self.evaluations:
            number = one.policy_round
            if one.split != split or number is None or one.ppm_round not in (number, None):
                continue
            if one.ppm_kind in (None, "ppm") and (number not in found or _size(one) > _size(found[number])):
                found[number] = one
        return dict(sorted(found.items()))

    def further_splits(self) -> list[str]:
        """Further test sets."""
        return sorted({one.split for one in self.evaluations} - {TEST, VALIDATION})

    def rivals(self, policy_round: int) -> list[Evaluation]:
        """Other reward models in the place of the PPM, on the test problems."""
        return [
            one
            for one in self.evaluations
            if one.split == TEST and one.policy_round == policy_round and one.ppm_kind not in (None, "ppm")
        ]


def _size(evaluation: Evaluation) -> tuple[int, int, int]:
    return len(evaluation.measured), evaluation.trajectories, len(methods_of(evaluation.measured))


def read_run(run: Path) -> RunRecords:
    """Read what is there."""
    agreed = run / "agreement" / "train.jsonl"
    problems = agreed if agreed.exists() else run / "problems" / "train.jsonl"
    groups = {one.id: one.group for one in read_problems(problems)} if problems.exists() else {}
    manifest = _read_json(run / "manifest.json")
    return RunRecords(
        groups=groups,
        labels={number: _labels(folder / "labels.jsonl") for number, folder in _rounds(run, "labels.jsonl")},
        promotions=[_promotion(number, folder) for number, folder in _rounds(run, "promotion.json")],
        evaluations=[_evaluation(file.parent) for file in sorted((run / "evaluation").glob(f"*/{ABOUT}"))],
        seconds={stage: entry["seconds"] for stage, entry in manifest.items() if "seconds" in entry},
        about=_read_json(run / "run.json"),
    )


def _rounds(run: Path, file: str) -> list[tuple[int, Path]]:
    """Folders of the rounds that have this file, by number."""
    found = [path.parent for path in run.glob(f"round-*/{file}")]
    return sorted((int(folder.name.removeprefix("round-")), folder) for folder in found)


def _labels(file: Path) -> dict[str, Outcomes]:
    return {outcomes.problem_id: outcomes for outcomes in map(read_outcomes, read_records(file))}


def _promotion(number: int, folder: Path) -> Promotion:
    return Promotion(round=number, **_read_json(folder / "promotion.json"))


def _evaluation(folder: Path) -> Evaluation:
    about = _read_json(folder / ABOUT)
    return Evaluation(
        name=folder.name,
        split=about["split"],
        policy_round=about.get("policy_round"),
        ppm_round=about.get("ppm_round"),
        ppm_kind=about.get("ppm_kind"),
        trajectories=about["trajectories"],
        measured=read_measured(folder),
    )


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
