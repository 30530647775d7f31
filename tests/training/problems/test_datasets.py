# pyright: basic
"""Problems are read from data sets that the library itself has written."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from training.problems.datasets import DatasetError, dataset_problems
from training.problems.problem import Problem
from training.recipe import Label

ROOT = Path(__file__).parents[3]
GSM8K = [{"question": f"{k} + 1?", "answer": f"Add.\n#### {k + 1}"} for k in range(3)]
MATH = [
    {"problem": "Find x.", "level": "Level 1", "type": "Algebra", "solution": r"$x = \boxed{2}$"},
    {"problem": "Prove it.", "level": "Level 5", "type": "Geometry", "solution": "Obvious."},
]


def saved(folder: Path, records: list[dict[str, str]]) -> str:
    datasets.Dataset.from_list(records).save_to_disk(folder)
    return str(folder)


def test_a_saved_split_gives_its_problems(tmp_path: Path) -> None:
    splits = {"train": datasets.Dataset.from_list(GSM8K), "test": datasets.Dataset.from_list(GSM8K[:1])}
    datasets.DatasetDict(**splits).save_to_disk(tmp_path / "gsm8k")
    found = dataset_problems(str(tmp_path / "gsm8k"), split="test")
    assert found.problems == [
        Problem(id="gsm8k/test/0", group="gsm8k", question="0 + 1?", answer="1", source="gsm8k", solution="Add.")
    ]
    assert len(dataset_problems(str(tmp_path / "gsm8k")).problems) == 3
    with pytest.raises(DatasetError, match=r"gsm8k has no split dev; it has train, test"):
        dataset_problems(str(tmp_path / "gsm8k"), split="dev")


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    name = saved(tmp_path / "math", MATH)
    found = dataset_problems(name)
    assert [(one.id, one.answer) for one in found.problems] == [("math/train/0", "2")]
    assert found.unanswered == 1
    synthetic = dataset_problems(name, label=Label.AGREED, needs_answers=False)
    assert [one.answer for one in synthetic.problems] == ["2", ""]
    assert synthetic.unanswered == 0


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_folder_of_files_gives_its_problems(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "metamath"
    records = [{"type": "GSM_Rephrased", "query": "How many?", "response": "So 7.\nThe answer is: 7"}]
    for split, rows in (("train", records * 2), ("test", records)):
        (folder / "main").mkdir(parents=True, exist_ok=True)
        getattr(datasets.Dataset.from_list(rows), f"to_{kind}")(folder / "main" / f"{split}-00000-of-00001.{kind}")
    found = dataset_problems(str(folder), subset="main", split="test")
    assert [(one.id, one.question, one.answer) for one in found.problems] == [
        ("metamath-main/test/0", "How many?", "7")
    ]
    with pytest.raises(DatasetError, match=r"metamath \(folder\), split dev, cannot be read: Unknown split"):
        dataset_problems(str(folder), split="dev")


def test_unknown_columns_are_refused_by_name(tmp_path: Path) -> None:
    name = saved(tmp_path / "odd", [{"prompt": "What?", "completion": "4"}])
    with pytest.raises(DatasetError, match=r"columns prompt, completion; expected a question in one of problem, quest"):
        dataset_problems(name)


def test_a_row_of_an_unknown_form_is_refused_by_number(tmp_path: Path) -> None:
    name = saved(tmp_path / "odd", [{"question": "What?", "answer": "4"}, {"question": " ", "answer": "4"}])
    with pytest.raises(DatasetError, match=r"odd \(split train\), row 1: no question"):
        dataset_problems(name)


def test_a_folder_that_does_not_exist_is_not_looked_up(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no folder"):
        dataset_problems(str(tmp_path / "absent"))


@pytest.mark.slow
def test_a_name_without_internet_is_refused_with_the_reason() -> None:
    program = "from training.problems.datasets import dataset_problems; dataset_problems('nobody/nothing')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert "DatasetError: nobody/nothing (no folder here, so looked for on the internet)" in finished.stderr
