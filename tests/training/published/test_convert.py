"""Conversion: only programs that print the known answer are kept, and validation problems stay out."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.problems.collect import is_held_out
from training.problems.files import ProblemFileError, file_problems
from training.published.convert import Sources, publish
from training.records import Trajectory, read_records, read_trajectories

NAMES = ("Ann Ben Cleo Dan Eve Finn Gus Hal Ivy Jon Kim Lou Max Nora Otto Pia Quin Rob Sue Tom Una Vic Wes Zoe").split()


def a_record(number: int, **changes: Any) -> dict[str, Any]:
    name, boxes = NAMES[number], number + 13
    return {
        "id": f"box-{number}",
        "question": f"{name} fills {boxes} boxes with 9 {name}-cakes each. How many cakes is that for {name}?",
        "answer": f"{name} has {boxes}*9=<<{boxes}*9={boxes * 9}>>{boxes * 9} cakes.\n#### {boxes * 9}",
        **changes,
    }


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


WRONG, REFUSED, KNOWN, DUPLICATE = 3, 4, 5, 7
"""Numbers of records that are not of the validation part."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the conversion of a file wrote to `out`."""
    folder = tmp_path_factory.mktemp("published")
    records = [a_record(number) for number in range(len(NAMES))]
    records[WRONG]["answer"] = "Each gets 10/3=<<10/3=3.33>>3.33, and all get 3.33*3=<<3.33*3=9.99>>9.99.\n#### 9.99"
    records[REFUSED]["answer"] = "Dan has 153 cakes.\n#### 153"
    records[DUPLICATE] = a_record(6, id="box-7")
    write_lines(folder / "boxes.jsonl", records)
    write_lines(folder / "test.jsonl", [a_record(KNOWN, answer=None)])
    publish(Sources(files={"gsm8k": [folder / "boxes.jsonl"]}, apart_from=[folder / "test.jsonl"]), folder / "out")
    return folder


@pytest.fixture(scope="module")
def held_out(folder: Path) -> set[str]:
    problems = file_problems(folder / "boxes.jsonl")
    return {problem.id for problem in problems if is_held_out(problem)}


def ids(path: Path) -> set[str]:
    return {record["id"] for record in read_records(path)}


def test_right_programs_become_trajectories(folder: Path) -> None:
    [one] = [one for one in read_trajectories(folder / "out" / "solutions.jsonl") if one.problem_id == "box-2"]
    assert one == Trajectory(
        problem_id="box-2",
        group="boxes",
        question=a_record(2)["question"],
        steps=("\n# Cleo has cakes\ncakes = 15 * 9\nprint(cakes)\n",),
        output="135",
        answer="135",
        is_right=True,
        source="published: gsm8k",
    )


def test_only_clean_training_problems_keep_solutions(folder: Path, held_out: set[str]) -> None:
    solved = {one.problem_id for one in read_trajectories(folder / "out" / "solutions.jsonl")}
    without = {f"box-{number}" for number in (WRONG, REFUSED, KNOWN, DUPLICATE)}
    assert not held_out & without
    assert solved == {f"box-{number}" for number in range(len(NAMES))} - held_out - without


def test_validation_and_training_problems_are_apart(folder: Path, held_out: set[str]) -> None:
    assert held_out
    assert ids(folder / "out" / "validation" / "boxes.jsonl") == held_out
    train = ids(folder / "out" / "train" / "boxes.jsonl")
    assert not train & held_out
    assert {f"box-{number}": f"box-{number}" in train for number in (WRONG, REFUSED, KNOWN, DUPLICATE)} == {
        "box-3": False,
        "box-4": True,
        "box-5": False,
        "box-7": False,
    }


def test_problem_files_are_read_by_a_recipe(folder: Path) -> None:
    [problem] = [one for one in file_problems(folder / "out" / "train" / "boxes.jsonl") if one.id == "box-2"]
    assert (problem.question, problem.answer, problem.group) == (a_record(2)["question"], "135", "boxes")


def test_the_report_counts_what_became_of_each_problem(folder: Path, held_out: set[str]) -> None:
    report = json.loads((folder / "out" / "report.json").read_text())
    problems = len(NAMES) - len(held_out) - 2
    assert report["problems"]["left_out_for_overlaps"] == report["problems"]["duplicates"]["count"] == 1
    assert report["programs"]["boxes"] == {
        "problems": problems,
        "refused": {"no_computation": 1},
        "converted": problems - 1,
        "right": problems - 2,
        "wrong": 1,
        "failed": 0,
    }


def test_a_file_without_problems_is_named(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "none.jsonl", [{"text": "?"}])
    with pytest.raises(ProblemFileError, match=r"none\.jsonl, line 1: no question"):
        publish(Sources(files={"gsm8k": [file]}), tmp_path / "out")
