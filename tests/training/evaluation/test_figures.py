"""Figures equal hand-computed values, and only compare what was measured on the same problems."""

from dataclasses import replace

import pytest

from tests.training.evaluation.attempting import an_attempt, measured
from training.evaluation.figures import (
    claims,
    confidence_of,
    coverage_at,
    curve,
    gain,
    groups_of,
    methods_of,
    of_group,
    share_of,
    solved,
    spending,
    step_scores,
)
from training.evaluation.solutions import Method

FOUR = measured(
    an_attempt("a/0", right_from=1),
    an_attempt("a/1", right_from=4),
    an_attempt("b/0", right_from=None),
    an_attempt("b/1", right_from=2),
)


def test_a_curve_has_the_share_at_each_budget() -> None:
    points = curve(FOUR, Method.MCTS)
    assert [(point.trajectories, point.share.estimate, point.tokens) for point in points] == [
        (1, 0.25, 25),
        (2, 0.5, 50),
        (4, 0.75, 100),
    ]
    assert {point.problems for point in points} == {4}


def test_a_curve_tells_how_many_trajectories_were_made() -> None:
    exhausted = replace(an_attempt("a/0"), trajectories=2)
    points = curve(measured(exhausted, an_attempt("a/1")), Method.MCTS)
    assert [point.made for point in points] == [1.0, 2.0, 3.0]


def test_a_curve_leaves_out_problems_it_was_lost_on() -> None:
    lost = measured(an_attempt("a/0", right_from=1), an_attempt("a/1", budgets=(1, 2)))
    assert [(point.trajectories, point.problems) for point in curve(lost, Method.MCTS)] == [(1, 1), (2, 1), (4, 1)]


def test_outcomes_at_a_budget_are_those_of_the_curve() -> None:
    assert solved(FOUR, Method.MCTS) == {"a/0": True, "a/1": True, "b/0": False, "b/1": True}
    assert solved(FOUR, Method.MCTS, at=2) == {"a/0": True, "a/1": False, "b/0": False, "b/1": True}
    assert solved(FOUR, Method.MCTS, at=3) == {}


def test_gains_are_paired_over_the_shared_problems() -> None:
    gained = gain({"a": True, "b": True, "c": False}, {"b": False, "c": False, "d": True})
    assert gained is not None
    assert (gained.difference.estimate, gained.problems) == (0.5, 2)
    assert gain({"a": True}, {"b": True}) is None


def test_groups_and_methods_are_those_of_all_problems() -> None:
    both = measured(*(attempts[Method.MCTS] for attempts in FOUR.values()), an_attempt("a/0", Method.GREEDY))
    assert groups_of(both) == ["a", "b"]
    assert list(of_group(both, "b")) == ["b/0", "b/1"]
    assert methods_of(both) == [Method.MCTS]
    assert methods_of({}) == []


def test_coverage_of_samples_uses_every_trajectory() -> None:
    sampled = measured(
        an_attempt("a/0", Method.MAJORITY, right=1), an_attempt("a/1", Method.MAJORITY, right=0, right_from=None)
    )
    interval = coverage_at(sampled, Method.MAJORITY, 2)
    assert interval is not None
    assert interval.estimate == pytest.approx(0.25)  # one right of four: half of the pairs hold it; none: 0
    assert coverage_at(sampled, Method.MAJORITY, 8) is None


def test_spending_is_the_mean_per_problem() -> None:
    two = measured(an_attempt("a/0", tokens=100), an_attempt("a/1", tokens=200))
    spent = spending(two, Method.MCTS)
    assert (spent.tokens, spent.trajectories, spent.code_steps, spent.seconds) == (150, 4, 10, 0.5)


def test_claims_leave_out_problems_without_an_answer() -> None:
    some = measured(an_attempt("a/0", confidence=0.9), an_attempt("a/1", answer=None, right_from=None))
    assert [(claim.problem_id, claim.confidence) for claim in claims(some)] == [("a/0", 0.9)]
    assert [claim.trajectories for claim in claims(some, at=2)] == [2]


def test_confidence_is_judged_as_given_or_as_adjusted() -> None:
    some = measured(
        *(an_attempt(f"a/{number}", confidence=0.9) for number in range(5)),
        *(an_attempt(f"b/{number}", confidence=0.4, right_from=None) for number in range(5)),
    )
    given = confidence_of(claims(some))
    assert given is not None
    assert given.error.estimate == pytest.approx(0.25)  # |0.9 - 1| and |0.4 - 0|, half each
    assert (given.base_rate, given.claims) == (0.5, 10)
    assert given.area is not None
    assert given.area.estimate == 1.0
    adjusted = confidence_of(claims(some), adjusted=lambda claim: round(claim.confidence))
    assert adjusted is not None
    assert adjusted.error.estimate == 0.0
    assert confidence_of([]) is None


def test_step_scores_are_judged_by_depth() -> None:
    # First steps: right 0.1, wrong 0.5 and 0.0. Second steps: right 0.9, wrong 0.2 and 0.3.
    paths = ((True, (0.1, 0.9)), (False, (0.5, 0.2)), (False, (0.0, 0.3)))
    scores = step_scores(measured(an_attempt("a/0", paths=paths)))
    assert [(one.depth, one.steps, one.area.estimate) for one in scores] == [(1, 3, 0.5), (2, 3, 1.0)]
    within = scores[0].within
    assert within is not None
    assert within.estimate == 0.5


def test_problems_are_told_apart_within_but_not_across() -> None:
    # One problem scores all low, one all high; inside each the right step is the better one.
    low = an_attempt("a/0", paths=((True, (-0.8,)), (False, (-0.9,))))
    high = an_attempt("a/1", paths=((True, (0.9,)), (False, (0.8,))))
    (scores,) = step_scores(measured(low, high))
    assert scores.area.estimate == 0.75
    assert scores.within is not None
    assert scores.within.estimate == 1.0


def test_the_share_of_no_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="no problems"):
        share_of({})
