"""Conversion: only programs that print the known answer are kept, and validation problems stay out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from training.problems.collect import is_held_out
from training.problems.files import ProblemFileError, file_problems
from training.problems.problem import Problem
from training.published.convert import NOTATIONS, Sources, publish
from training.published.program import Reason, Refused
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
    sources = Sources(files={"gsm8k": [folder / "boxes.jsonl"]}, apart_from=[folder / "test.jsonl"], variants=1)
    publish(sources, folder / "out")
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
    solved = {
        one.problem_id for one in read_trajectories(folder / "out" / "solutions.jsonl") if "/" not in one.problem_id
    }
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


def test_variants_are_solved_problems_with_other_numbers(folder: Path) -> None:
    solved = list(read_trajectories(folder / "out" / "solutions.jsonl"))
    changed = {one.problem_id: one for one in solved if "/" in one.problem_id}
    problems = {problem.id: problem for problem in file_problems(folder / "out" / "variants" / "boxes.jsonl")}
    assert changed.keys() == problems.keys()
    assert {name.removesuffix("/1") for name in changed} == {one.problem_id for one in solved} - changed.keys()
    for name, one in changed.items():
        assert (one.question, one.answer) == (problems[name].question, problems[name].answer)
        assert one.source == "published: gsm8k, other numbers"
        first, second = (int(number) for number in re.findall(r"\d+", one.question))
        assert int(one.output) == first * second
    assert json.loads((folder / "out" / "report.json").read_text())["variants"] == {
        "drawn": len(changed),
        "duplicates": 0,
        "overlaps": 0,
        "right": {"boxes": len(changed)},
    }


@pytest.mark.parametrize(
    ("notation", "fields"),
    [
        ("mawps", {"equation": "X = 14 + 9"}),
        ("awpc", {"solution": "14 + 9 → 23"}),
        ("mathqa", {"extra": {"program": "n0 = 14.0\nn1 = 9.0\nanswer = n0 + n1"}}),
    ],
)
def test_each_notation_is_read_from_its_field(notation: str, fields: dict[str, Any]) -> None:
    record = {"problem": "Ann has 14 nuts and 9 more.", "answer": "23", **fields}
    problem = Problem(
        id="1", group="g", question=record["problem"], answer="23", source="g", solution=fields.get("solution")
    )
    [assignment] = NOTATIONS[notation].program(problem, record).assignments
    assert assignment.expression == "14 + 9"


@pytest.mark.parametrize("notation", ["awpc", "mathqa"])
def test_answers_that_depend_on_rounding_are_refused(notation: str) -> None:
    problem = Problem(id="1", group="g", question="A third of 10?", answer="3.33", source="g", solution="10 / 3 = 3.33")
    with pytest.raises(Refused) as refusal:
        NOTATIONS[notation].program(problem, {"program": "answer = 10 / 3"})
    assert refusal.value.reason is Reason.NOT_WHOLE


def test_a_file_without_problems_is_named(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "none.jsonl", [{"text": "?"}])
    with pytest.raises(ProblemFileError, match=r"none\.jsonl, line 1: no question"):
        publish(Sources(files={"gsm8k": [file]}), tmp_path / "out")
