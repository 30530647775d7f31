"""Evolution whose rounds are all refused: it goes on with the models before them, and still ends in a report.

The policy is trained at a rate that destroys it. Two of the training problems have a label to be agreed on.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.bundle.folders import bundled_models
from training.evaluation.solutions import Method
from training.evolve import evolve
from training.problems.families import family_problems
from training.problems.problem import read_problems
from training.recipe import Label, Recipe
from training.records import write_records
from training.release import NotReleasable, release
from training.report.records import read_run
from training.rollouts import Trees
from training.run_folder import content_hash

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SOLVABLE = family_problems("chain_sum", 1)[0]


def a_recipe(folder: Path) -> Recipe:
    agreed = [
        {"id": "misprinted", "problem": SOLVABLE.question, "answer": "0"},
        {"id": "nonsense", "problem": "Why is the sea so deep?", "answer": "1"},
    ]
    write_records(folder / "agreed.jsonl", agreed)
    return Recipe.model_validate(
        {
            "name": "refused",
            "start": "bundle",
            "base": "start",
            "bootstrap": {"kind": "start"},
            "problems": {
                "train": [
                    {"families": ["chain_sum"], "count": 2},
                    {"file": str(folder / "agreed.jsonl"), "label": "agreed"},
                ],
                "validation": [{"families": ["polynomial_equations"], "count": 2}],
                "test": [{"families": ["polynomial_equations"], "count": 2}],
                "agreement": {"solutions": 4, "at_least": 3},
            },
            "rounds": [
                {"values": "terminal_guided", "candidates": 3, "passes": [{"trajectories": 3}]},
                {"values": "ppm", "candidates": 3, "passes": [{"trajectories": 3}]},
            ],
            "search": {"max_step_tokens": 96},
            "examples": {"perturbed": 2},
            "policy": {"learning_rate": 0.5, "batch_examples": 4, "max_length": 512},
            "ppm": {"learning_rate": 1e-4, "batch_examples": 4, "max_length": 512},
            "baselines": [],
            "engine": {"processes": 1, "concurrency": 1, "precision": "float32"},
            "evaluation": {
                "validation_trajectories": 1,
                "trajectories": 2,
                "further_trajectories": 1,
                "candidates": 2,
                "matrix_trajectories": 1,
                "matrix_problems": 1,
            },
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    evolve(a_recipe(folder), folder / "run")
    return folder / "run"


def read_json(file: Path) -> Any:
    return json.loads(file.read_text())


def test_problems_get_the_label_that_solutions_agree_on(run: Path) -> None:
    given = {problem.id: problem for problem in read_problems(run / "problems" / "train.jsonl")}
    agreed = {problem.id: problem for problem in read_problems(run / "agreement" / "train.jsonl")}
    assert given.keys() - agreed.keys() == {"nonsense"}
    assert given["misprinted"].answer == "0"
    assert agreed["misprinted"] == replace(given["misprinted"], answer=SOLVABLE.answer)
    assert agreed["misprinted"].label is Label.AGREED


def test_refused_rounds_are_told_with_what_they_lost(run: Path) -> None:
    for number in (1, 2):
        decision = read_json(run / f"round-{number}" / "promotion.json")
        assert decision == {"over_round": 0, "candidate": 0.0, "incumbent": 1.0, "problems": 2, "is_promoted": False}


def test_after_a_refused_round_the_models_before_it_search(run: Path) -> None:
    manifest = read_json(run / "manifest.json")
    start = bundled_models().policy
    for number in (1, 2):
        read = manifest[f"round-{number}/rollouts"]["inputs"]
        assert read == {
            "agreement/train.jsonl": content_hash(run / "agreement" / "train.jsonl"),
            "bundle/policy": content_hash(start),
        }


def test_without_a_promoted_ppm_rollouts_are_terminal_guided(run: Path) -> None:
    trees = [tree for found in Trees(run / "round-2" / "trees").values() for tree in found]
    assert trees
    assert all(node.score is None for tree in trees for node in tree.nodes)


def test_a_run_without_a_promoted_round_still_has_its_report(run: Path) -> None:
    assert "The best models are those of round 0." in (run / "report.md").read_text()
    records = read_run(run)
    assert records.best_round == 0
    assert records.rounds()[0].has(Method.MCTS_CONSTANT, Method.MAJORITY, Method.GREEDY)
    assert list(records.groups) == list(records.labels[1])
    assert records.rivals(0) == []


def test_a_run_without_a_promoted_round_is_not_released(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NotReleasable, match="there are none where no round was promoted"):
        release(run, tmp_path)
    assert not (run / "final").exists()
