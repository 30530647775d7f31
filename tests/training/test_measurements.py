"""Measurements: the folders of a run, and what each was measured with. The bundled models stand for all rounds."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from server.bundle.folders import bundled_models
from training.evaluation.measure import Models, mcts_tokens, read_measured
from training.evaluation.solutions import Method
from training.measurements import Measurements
from training.problems.collect import collect
from training.problems.problem import read_problems
from training.recipe import Recipe
from training.run_folder import RunFolder, open_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RECIPE = Recipe.model_validate(
    {
        "name": "test",
        "start": "bundle",
        "base": "start",
        "bootstrap": {"kind": "start"},
        "problems": {
            "train": [{"families": ["lcm"], "count": 1}],
            "validation": [{"families": ["gcd"], "count": 2}],
            "test": [{"families": ["gcd", "chain_sum"], "count": 2}],
            "further": {"weak": [{"families": ["products"], "count": 1}]},
        },
        "rounds": [{"values": "terminal_guided", "candidates": 2, "passes": [{"trajectories": 2}]}],
        "policy": {"learning_rate": 1e-3, "batch_examples": 2},
        "ppm": {"learning_rate": 1e-3, "batch_examples": 2},
        "engine": {"processes": 1, "concurrency": 4, "precision": "float32"},
        "evaluation": {
            "validation_trajectories": 1,
            "trajectories": 3,
            "further_trajectories": 2,
            "candidates": 2,
            "matrix_trajectories": 1,
            "matrix_problems": 2,
        },
    }
)
ALL = {Method.MCTS, Method.MAJORITY, Method.BEST_OF_N, Method.GREEDY}


def of_round(number: int) -> Models:
    """The bundled models, as those of a round; before the first there is no PPM."""
    folders = bundled_models()
    models = Models(policy=folders.policy, ppm=folders.ppm, policy_round=number, ppm_round=number)
    return models if number else replace(models, ppm=None, ppm_round=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run of two rounds, of which the second is the best, with everything measured."""
    with open_run(tmp_path_factory.mktemp("run"), RECIPE) as opened:
        collect(RECIPE.problems, opened.path / "problems")
        rounds = [of_round(number) for number in range(3)]
        best, measurements = rounds[-1], Measurements(RECIPE, opened)
        for models in rounds[:2]:
            measurements.validate(models)
        measurements.calibrate(best)
        measurements.test(rounds, best)
        measurements.test_further(rounds[0], best)
        measurements.cross(rounds[:2])
        for kind in ("pqm", "orm"):
            measurements.compare(best, replace(best, ppm_kind=kind))
        yield opened


def about(run: RunFolder, name: str) -> dict[str, Any]:
    return json.loads((run.path / "evaluation" / name / "about.json").read_text())


def test_every_measurement_has_a_folder_and_a_stage(run: RunFolder) -> None:
    expected = {
        *("validation-0", "validation-1"),
        "calibration",
        *(f"round-{number}" for number in range(3)),
        *(f"weak-round-{number}" for number in (0, 2)),
        *("policy-0-ppm-1", "policy-1-ppm-1"),
        *("pqm", "orm"),
    }
    assert {folder.name for folder in (run.path / "evaluation").iterdir()} == expected
    assert run.stages == {f"evaluation/{name}" for name in expected}


@pytest.mark.parametrize(
    ("name", "split", "methods", "trajectories"),
    [
        ("validation-0", "validation", {Method.MCTS_CONSTANT}, 1),
        ("validation-1", "validation", {Method.MCTS}, 1),
        ("calibration", "validation", {Method.MCTS}, 3),
        ("round-0", "test", {Method.MCTS_CONSTANT, Method.GREEDY}, 3),
        ("round-1", "test", {Method.GREEDY}, 3),
        ("round-2", "test", ALL, 3),
        ("weak-round-0", "further/weak", {Method.MCTS_CONSTANT, Method.GREEDY}, 2),
        ("weak-round-2", "further/weak", {Method.MCTS, Method.GREEDY}, 2),
        ("policy-0-ppm-1", "test", {Method.MCTS}, 1),
        ("pqm", "test", {Method.BEST_OF_N}, 3),
        ("orm", "test", {Method.BEST_OF_N}, 3),
    ],
)
def test_a_measurement_has_its_problems_methods_and_budget(
    run: RunFolder, name: str, split: str, methods: set[Method], trajectories: int
) -> None:
    told = about(run, name)
    assert (told["split"], set(told["methods"]), told["trajectories"]) == (split, methods, trajectories)
    measured = read_measured(run.path / "evaluation" / name)
    assert {method for attempts in measured.values() for method in attempts} == methods


ROUNDS = {
    "round-0": (0, None, None),
    "round-1": (1, 1, "ppm"),
    "policy-0-ppm-1": (0, 1, "ppm"),
    "pqm": (2, 2, "pqm"),
    "orm": (2, 2, "orm"),
}


def test_measurements_tell_rounds_and_kinds_of_models_apart(run: RunFolder) -> None:
    keys = ("policy_round", "ppm_round", "ppm_kind")
    assert {name: tuple(about(run, name)[key] for key in keys) for name in ROUNDS} == ROUNDS


def test_rivals_pay_the_tokens_of_the_search_with_the_ppm(run: RunFolder) -> None:
    prices = mcts_tokens(run.path / "evaluation" / "round-2")
    assert len(prices) == 4
    for name in ("pqm", "orm"):
        assert about(run, name)["equal_tokens"]
        measured = read_measured(run.path / "evaluation" / name)
        assert {key: attempts[Method.BEST_OF_N].tokens >= prices[key] for key, attempts in measured.items()} == (
            dict.fromkeys(prices, True)
        )
    assert not about(run, "round-2")["equal_tokens"]


def test_the_matrix_spreads_over_all_test_problems(run: RunFolder) -> None:
    problems = read_problems(run.path / "problems" / "test.jsonl")
    measured = read_measured(run.path / "evaluation" / "policy-0-ppm-1")
    assert set(measured) == {problems[0].id, problems[2].id}
