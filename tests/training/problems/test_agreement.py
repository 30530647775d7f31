"""Agreement: at least 3 of 10 solutions, and more than for any other answer, label a synthetic problem."""

from pathlib import Path

import pytest

from server.bundle.folders import bundled_models
from training.problems.agreement import Answers, Solve, agree, agreed_answer, decided
from training.problems.problem import Problem
from training.recipe import Agreement, Engine, Label, Search
from training.records import appending


def problem(name: str, answer: str = "", *, label: Label = Label.AGREED, question: str = "?") -> Problem:
    return Problem(id=name, group="g", question=question, answer=answer, source="g.jsonl", label=label)


@pytest.mark.parametrize(
    ("solutions", "answer"),
    [
        ([], None),
        ([2], None),
        ([3], "a0"),
        ([2, 3], "a1"),
        ([3, 3, 4], "a2"),
        ([3, 3], None),  # neither can be trusted
        ([1] * 10, None),
        ([10], "a0"),
    ],
)
def test_three_solutions_and_a_lead_make_a_label(solutions: list[int], answer: str | None) -> None:
    answers = [Answers(f"a{place}", count) for place, count in enumerate(solutions)]
    assert agreed_answer(answers, at_least=3) == answer


def test_exact_labels_pass_and_agreed_answers_replace_others() -> None:
    problems = [problem("a", "7"), problem("b", "1", label=Label.EXACT), problem("c", "5"), problem("d")]
    found = {"a": [Answers("7", 9)], "c": [Answers("6", 3), Answers("5", 2)], "d": [Answers("1", 2)]}
    agreed = decided(problems, found, Agreement())
    assert [(one.id, one.answer) for one in agreed.problems] == [("a", "7"), ("b", "1"), ("c", "6")]
    assert agreed.left_out == ["d"]


def test_a_run_without_any_agreement_says_what_to_do(tmp_path: Path) -> None:
    work = Solve(policy=tmp_path, settings=Agreement(), search=Search(), engine=Engine(processes=1), seed=1)
    with appending(tmp_path / "part-0.jsonl") as append:
        append({"key": "a", "result": {"answers": [["7", 2], ["8", 1]]}})
    with pytest.raises(ValueError, match=r"for none of 1 with an agreed label do 3 of 10 .* lower problems.agreement"):
        agree(work, [problem("a")], tmp_path)


@pytest.mark.slow
def test_the_bundled_policy_agrees_on_an_easy_sum(tmp_path: Path) -> None:
    work = Solve(
        policy=bundled_models().policy,
        settings=Agreement(solutions=10, at_least=3),
        search=Search(),
        engine=Engine(processes=1, precision="float32"),
        seed=1,
    )
    sums = [
        problem("sum", question="State the final answer to the following arithmetic problem: 12 + 30 ="),
        problem("odd", question="Why?"),
        problem("exact", "5", label=Label.EXACT),
    ]
    agreed = agree(work, sums, tmp_path)
    assert [(one.id, one.answer) for one in agreed.problems if one.id != "odd"] == [("sum", "42"), ("exact", "5")]
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert agree(work, sums, tmp_path) == agreed
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
