"""Examples are divided by problem, and a problem keeps its side whatever is added."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from training.examples.splitting import is_held_out, split_by_problem


@dataclass(frozen=True)
class Numbered:
    """An example."""

    problem_id: str
    number: int


def examples(problem_ids: list[str]) -> list[Numbered]:
    return [Numbered(problem_id, number) for number, problem_id in enumerate(problem_ids * 3)]


@given(st.lists(st.text(), unique=True), st.floats(0, 1))
def test_no_problem_is_on_both_sides(problem_ids: list[str], held_out: float) -> None:
    training, validation = split_by_problem(examples(problem_ids), held_out=held_out)
    assert not {one.problem_id for one in training} & {one.problem_id for one in validation}
    assert sorted(training + validation, key=lambda one: one.number) == examples(problem_ids)


@given(st.lists(st.text(), unique=True), st.lists(st.text(), unique=True))
def test_a_problem_keeps_its_side_when_others_are_added(few: list[str], more: list[str]) -> None:
    before = split_by_problem(examples(few), held_out=0.3)
    after = split_by_problem(examples(list(dict.fromkeys(more + few))), held_out=0.3)
    for side_before, side_after in zip(before, after, strict=True):
        assert {one.problem_id for one in side_before} <= {one.problem_id for one in side_after}


def test_about_the_wanted_share_of_the_problems_is_held_out() -> None:
    held_out = sum(is_held_out(f"gcd/train/{number}", share=0.1) for number in range(10_000))
    assert 900 < held_out < 1100
    assert not any(is_held_out(str(number), share=0.0) for number in range(1000))
