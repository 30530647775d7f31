"""The report counts what was left out, with examples, and reads the same from JSON."""

import json

from training.problems.cleaning import decontaminated, deduplicated
from training.problems.problem import Problem
from training.problems.report import markdown, part_report


def problem(name: str, question: str, answer: str = "1") -> Problem:
    return Problem(id=name, group="sums", question=question, answer=answer, source="sums.json")


def test_the_report_counts_by_rule_and_evaluation_set() -> None:
    read = [problem("a", "1 + 1?"), problem("b", "1 + 1?", "2"), problem("c", "2 - 2?"), problem("d", "free?")]
    distinct, duplicates = deduplicated(read)
    clean = decontaminated(distinct, {"test": [problem("e", "1 + 1?"), problem("f", "3 - 3?")]})
    part = part_report(
        {"sums.json": 5}, clean.kept, duplicates=duplicates, overlaps=clean.overlaps, unanswered={"sums.json": 1}
    )
    report = json.loads(json.dumps({"train": part}))

    assert report["train"]["duplicates"]["with_another_answer"] == 1
    assert report["train"]["groups"] == {"sums": 1}
    overlaps = report["train"]["overlaps"]["test"]
    assert {rule: found["count"] for rule, found in overlaps.items()} == {
        "equal_text": 1,
        "other_numbers": 1,
        "shared_run": 0,
    }
    assert overlaps["other_numbers"]["examples"] == [
        {"id": "c", "question": "2 - 2?", "other_id": "f", "other_question": "3 - 3?"}
    ]
    lines = markdown(report).splitlines()
    assert "| train | 5 | 1 | 1 | 2 | 1 |" in lines
    assert "| train | test | 1 | 1 | 0 |" in lines
