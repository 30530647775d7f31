"""Attempts: graded on the final answer and at every budget; records read back; pass@k equals hand-computed values."""

import json
from fractions import Fraction
from itertools import combinations

import pytest

from search import StopReason
from training.evaluation.attempts import (
    Attempt,
    answers_of,
    attempts_record,
    budgets,
    graded,
    pass_at_k,
    read_attempts,
)
from training.evaluation.solutions import Method, Moment, Solution

OWN = ("7", None, "8", "8")
BEST = ("7", "7", "7", "8")


def _solution(stop_reason: StopReason = StopReason.BUDGET) -> Solution:
    moments = tuple(
        Moment(own=own, scores=(0.25, 0.123456), answer=best, confidence=0.5 + number / 10, tokens=10 * number)
        for number, (own, best) in enumerate(zip(OWN, BEST, strict=True))
    )
    return Solution(
        answer="8",
        confidence=0.8,
        moments=moments,
        stop_reason=stop_reason,
        trajectories=4,
        tokens=30,
        code_steps=9,
        seconds=1.5,
    )


def _attempt(method: Method = Method.MCTS, *, right: str = "8", stop_reason: StopReason = StopReason.BUDGET) -> Attempt:
    return graded(
        _solution(stop_reason),
        problem_id="a/1",
        group="a",
        method=method,
        right=frozenset({right}),
        at=(1, 2, 4, 8),
    )


def test_budgets_double_up_to_the_whole() -> None:
    assert budgets(64) == [1, 2, 4, 8, 16, 32, 64]
    assert budgets(12) == [1, 2, 4, 8, 12]
    assert budgets(1) == [1]


def test_every_answer_is_graded_once() -> None:
    assert answers_of(_solution()) == ["8", "7"]


def test_the_curve_has_the_answer_at_each_budget() -> None:
    attempt = _attempt()
    assert [(point.trajectories, point.is_right, point.any_right, point.tokens) for point in attempt.curve] == [
        (1, False, False, 0),
        (2, False, False, 10),
        (4, True, True, 30),
    ]
    assert attempt.is_right
    assert attempt.right_trajectories == 2


def test_a_right_trajectory_counts_though_the_answer_is_wrong() -> None:
    attempt = _attempt(right="7")
    assert (attempt.is_right, attempt.any_right) == (False, True)


def test_an_exhausted_search_has_the_same_answer_later() -> None:
    attempt = _attempt(stop_reason=StopReason.EXHAUSTED)
    last = attempt.at(8)
    assert last is not None
    assert (last.is_right, last.tokens) == (True, 30)
    assert _attempt().at(8) is None


def test_a_record_reads_back_as_it_was() -> None:
    attempts = [_attempt(), _attempt(Method.GREEDY)]
    record = json.loads(json.dumps(attempts_record("a/1", "a", attempts)))
    assert read_attempts(record) == {attempt.method: attempt for attempt in attempts}
    assert attempts[0].paths[0] == (False, (0.25, 0.1235))
    assert "paths" not in record["attempts"][1]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_of_samples_averages_over_all_choices(k: int) -> None:
    attempt = _attempt(Method.MAJORITY)
    choices = list(combinations(OWN, k))
    expected = Fraction(sum("8" in choice for choice in choices), len(choices))
    assert pass_at_k(attempt, k) == pytest.approx(float(expected))


def test_pass_at_k_of_a_search_is_that_of_its_first_ones() -> None:
    attempt = _attempt()
    assert [pass_at_k(attempt, k) for k in (1, 2, 4)] == [0.0, 0.0, 1.0]


def test_pass_at_more_than_there_are_is_unknown() -> None:
    assert pass_at_k(_attempt(Method.MAJORITY), 5) is None
    assert pass_at_k(_attempt(), 8) is None


def test_a_round_of_step_beam_is_counted_as_a_whole() -> None:
    assert _attempt(Method.STEP_BEAM).curve == ()
