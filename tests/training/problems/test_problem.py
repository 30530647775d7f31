"""Problems survive the way to disk and back."""

from pathlib import Path

from training.problems.problem import Problem, read_problems, write_problems
from training.recipe import Label


def test_problems_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    problems = [
        Problem(id="gcd/test/0", group="gcd", question="gcd of 4 and 6?", answer="2", source="reasoning-gym"),
        Problem(
            id="a",
            group="sums",
            question="1 + 1 — how\nmuch?",
            answer="2",
            source="sums.jsonl",
            label=Label.AGREED,
            solution="Count.",
        ),
    ]
    file = tmp_path / "folder" / "problems.jsonl"
    write_problems(file, problems)
    assert read_problems(file) == problems
    assert read_problems(file)[1].label is Label.AGREED
