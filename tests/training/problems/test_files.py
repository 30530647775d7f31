"""Files of problems: a JSON list or JSON lines; what cannot be read is refused by file, line and expectation."""

import json
from pathlib import Path

import pytest

from training.problems.files import ProblemFileError, file_problems
from training.problems.problem import Problem
from training.recipe import Label


def written(folder: Path, content: str, name: str = "sums.jsonl") -> Path:
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def test_a_list_and_lines_give_the_same_problems(tmp_path: Path) -> None:
    records = [{"question": "1 + 1?", "answer": "2"}, {"problem": "2 + 2?", "answer": 4, "solution": "Count."}]
    of_list = file_problems(written(tmp_path, json.dumps(records, indent=2), "sums.json"))
    lines = "\ufeff" + "\n\n".join(map(json.dumps, records)) + "\n"
    of_lines = file_problems(written(tmp_path, lines, "sums.jsonl"))
    assert [(one.id, one.question, one.answer, one.solution) for one in of_lines] == [
        ("sums/0", "1 + 1?", "2", None),
        ("sums/1", "2 + 2?", "4", "Count."),
    ]
    assert [one.id for one in of_list] == [one.id for one in of_lines]
    assert of_list[0] == Problem(id="sums/0", group="sums", question="1 + 1?", answer="2", source="sums.json")


def test_an_id_is_kept_and_an_index_is_put_behind_the_file(tmp_path: Path) -> None:
    lines = [
        '{"id": "gsm-7", "index": 3, "question": "?", "answer": "1"}',
        '{"index": 12, "question": "?", "answer": "1"}',
    ]
    problems = file_problems(written(tmp_path, "\n".join(lines)))
    assert [problem.id for problem in problems] == ["gsm-7", "sums/12"]


def test_a_limit_takes_the_first_problems_only(tmp_path: Path) -> None:
    file = written(tmp_path, "\n".join(f'{{"question": "{k}?", "answer": "{k}"}}' for k in range(5)))
    assert [problem.answer for problem in file_problems(file, limit=2)] == ["0", "1"]


def test_synthetic_problems_may_lack_an_answer(tmp_path: Path) -> None:
    file = written(tmp_path, '{"question": "1 + 1?"}\n')
    with pytest.raises(ProblemFileError, match=r"sums\.jsonl, line 1: no answer; expected"):
        file_problems(file)
    problems = file_problems(file, label=Label.AGREED, needs_answers=False)
    assert [(problem.answer, problem.label) for problem in problems] == [("", Label.AGREED)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", r"line 1: no JSON"),
        ('{"question": "?", "answer": "1"}\n{"question": ', r"line 2: no JSON"),
        ('[{"question": "?", "answer": "1"},\n,]', r"line 2: no JSON"),
        ("{}", r"line 1: no question; expected .*found nothing"),
        ('{"question": "what?"}', r"line 1: no answer; expected .*found question"),
        ('[{"question": "?", "answer": "1"}, "text"]', r"item 2: expected an object, found str"),
        ('\n{"question": "?", "answer": {"x": 1}}', r"line 2: the \"answer\" is of type dict"),
        ("[]", r"holds no problem"),
        ("", r"holds no problem"),
    ],
)
def test_an_unreadable_file_is_refused_by_place(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ProblemFileError, match=r"sums\.jsonl.*" + message):
        file_problems(written(tmp_path, content))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match=r"absent\.json cannot be read"):
        file_problems(tmp_path / "absent.json")
