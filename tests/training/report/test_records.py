"""Records: read as far as they are there; the measurement of a round is its largest, and only its own."""

from pathlib import Path

from tests.training.report.a_run import write_run
from training.evaluation.solutions import Method
from training.problems.problem import read_problems, write_problems
from training.records import write_json
from training.report.records import read_run


def test_an_empty_folder_has_no_records(tmp_path: Path) -> None:
    records = read_run(tmp_path)
    assert (records.labels, records.evaluations, records.promotions, records.seconds) == ({}, [], [], {})
    assert records.best_round is None
    assert records.rounds() == {}


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    write_run(tmp_path, problems=4)
    records = read_run(tmp_path)
    assert list(records.labels) == [1, 2]
    assert set(records.groups.values()) == {"sums", "products"}
    assert records.seconds == {"problems": 2.0, "round-1/policy": 3600.0}
    assert len(records.evaluations) == 3 * (1 + 3 + 2) + 2
    assert (records.best_round, records.further_splits()) == (2, ["harder"])


def test_problems_without_agreement_are_not_counted(tmp_path: Path) -> None:
    write_run(tmp_path, problems=4)
    file = tmp_path / "problems" / "train.jsonl"
    kept = read_problems(file)[:3]
    write_problems(tmp_path / "agreement" / "train.jsonl", kept)
    assert list(read_run(tmp_path).groups) == [problem.id for problem in kept]


def test_a_round_is_its_largest_measurement_with_its_own_ppm(tmp_path: Path) -> None:
    write_run(tmp_path, problems=4)
    records = read_run(tmp_path)
    assert [one.name for one in records.rounds().values()] == ["round-0", "round-1", "round-2"]
    assert [one.name for one in records.rounds("validation").values()] == [f"validation-{n}" for n in (0, 1, 2)]
    assert [one.name for one in records.rivals(2)] == ["orm", "pqm"]
    assert records.rivals(1) == []


def test_a_refused_round_is_not_the_best(tmp_path: Path) -> None:
    write_run(tmp_path, problems=4)
    refused = {"over_round": 1, "candidate": 0.5, "incumbent": 0.8, "problems": 4, "is_promoted": False}
    write_json(tmp_path / "round-2" / "promotion.json", refused)
    assert read_run(tmp_path).best_round == 1
    write_json(tmp_path / "round-1" / "promotion.json", {**refused, "over_round": 0})
    assert read_run(tmp_path).best_round == 0


def test_without_a_reward_model_the_search_is_the_constant_one(tmp_path: Path) -> None:
    write_run(tmp_path, problems=4)
    about = tmp_path / "evaluation" / "round-0" / "about.json"
    write_json(about, {"policy_round": 0, "ppm_round": None, "ppm_kind": None, "split": "test", "trajectories": 8})
    assert read_run(tmp_path).rounds()[0].search is Method.MCTS_CONSTANT


def test_unfinished_stages_have_no_seconds(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"problems": {"inputs": {}}, "labels": {"seconds": 1.5}})
    assert read_run(tmp_path).seconds == {"labels": 1.5}
