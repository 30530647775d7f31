"""The fit finds the coefficients that outcomes were drawn with, keeps the order of shares, and is always finite."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from search import Calibration
from tests.training.evaluation.attempting import an_attempt, measured
from training.evaluation.calibration import NothingToFit, calibrated, fit_calibration, fit_claims
from training.evaluation.figures import Claim, confidence_of

TRUTH = Calibration(scale=0.6, budget_slope=0.4, offset=-0.5)


def _claim(share: float, *, right: bool, problem: str = "a/0", trajectories: int = 1) -> Claim:
    return Claim(problem_id=problem, trajectories=trajectories, confidence=share, is_right=right)


def _drawn(count: int, seed: int, chance: Callable[[float, int], float]) -> list[Claim]:
    rng = random.Random(seed)
    made: list[Claim] = []
    for number in range(count):
        share, trajectories = rng.uniform(0.02, 0.98), rng.choice((1, 2, 4, 8, 16, 32, 64))
        is_right = rng.uniform(0, 1) < chance(share, trajectories)
        made.append(_claim(share, right=is_right, problem=f"a/{number}", trajectories=trajectories))
    return made


def _true_chance(share: float, trajectories: int) -> float:
    return TRUTH.confidence(share, trajectories=trajectories)


def _coefficients(fit: Calibration) -> tuple[float, float, float]:
    return fit.scale, fit.budget_slope, fit.offset


def test_the_fit_finds_the_coefficients_of_the_outcomes() -> None:
    fit = fit_claims(_drawn(20_000, 1, _true_chance))
    assert _coefficients(fit) == pytest.approx(_coefficients(TRUTH), abs=0.1)


def test_a_fit_on_validation_corrects_the_confidence_on_test() -> None:
    fit = fit_claims(_drawn(1_000, 2, _true_chance))
    test = _drawn(4_000, 3, _true_chance)
    unfitted, fitted = confidence_of(test), confidence_of(test, adjusted=lambda claim: calibrated(fit, claim))
    assert unfitted is not None
    assert fitted is not None
    assert unfitted.error.estimate > 0.1
    assert fitted.error.estimate < 0.05
    assert fitted.brier.score.estimate < unfitted.brier.score.estimate


def _likelihood(fit: Calibration, made: Sequence[Claim]) -> float:
    """With the ridge, as hand-written sums."""
    chances = [fit.confidence(one.confidence, trajectories=one.trajectories) for one in made]
    fits = sum(math.log(chance if one.is_right else 1 - chance) for chance, one in zip(chances, made, strict=True))
    return fits - ((fit.scale - 1) ** 2 + fit.budget_slope**2 + fit.offset**2) / 2


def test_no_other_coefficients_are_more_likely() -> None:
    made = _drawn(60, 4, _true_chance)
    fit = fit_claims(made)
    best = _likelihood(fit, made)
    for shift in (-0.05, 0.05):
        for name in ("scale", "budget_slope", "offset"):
            other = replace(fit, **{name: getattr(fit, name) + shift})
            assert _likelihood(other, made) < best


def test_a_share_that_misleads_does_not_count() -> None:
    fit = fit_claims(_drawn(2_000, 5, lambda share, _: 1 - share))
    assert fit.scale == 0.0
    low, high = (fit.confidence(share, trajectories=4) for share in (0.2, 0.9))
    assert low == high == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_give_a_finite_fit(*, right: bool) -> None:
    fit = fit_claims([_claim(0.7, right=right, problem=f"a/{number}") for number in range(100)])
    confidence = fit.confidence(0.7, trajectories=1)
    assert (0.95 < confidence < 1.0) if right else (0.0 < confidence < 0.05)


def test_one_problem_changes_little() -> None:
    fit = fit_claims([_claim(0.7, right=False)])
    assert 0.45 < fit.confidence(0.7, trajectories=1) < 0.7


def test_every_problem_counts_once() -> None:
    once = fit_claims([_claim(0.6, right=True), _claim(0.8, right=False, problem="a/1")])
    often = fit_claims([*[_claim(0.6, right=True)] * 7, _claim(0.8, right=False, problem="a/1")])
    assert _coefficients(often) == pytest.approx(_coefficients(once))


def test_shares_of_0_and_1_are_left_out() -> None:
    rest = [_claim(0.6, right=True), _claim(0.8, right=False, problem="a/1")]
    edges = [_claim(0.0, right=True, problem="a/2"), _claim(1.0, right=False, problem="a/3")]
    assert fit_claims([*rest, *edges]) == fit_claims(rest)
    with pytest.raises(NothingToFit, match="none of the 2 answers"):
        fit_claims(edges)


def test_extreme_shares_give_a_finite_fit() -> None:
    made = [
        _claim(share, right=share < 0.5, problem=f"a/{number}") for number, share in enumerate([1e-12, 1 - 1e-12] * 20)
    ]
    fit = fit_claims(made)
    assert fit.scale == 0.0
    assert all(math.isfinite(coefficient) for coefficient in _coefficients(fit))


def test_the_fit_uses_the_answers_at_all_budgets() -> None:
    some = measured(
        *(an_attempt(f"a/{number}", right_from=4, confidence=0.6) for number in range(50)),
        *(an_attempt(f"b/{number}", answer=None, right_from=None) for number in range(5)),
    )
    fit = fit_calibration(some)
    chances = [fit.confidence(0.6, trajectories=trajectories) for trajectories in (1, 2, 4)]
    assert chances[0] < 0.3
    assert chances[2] > 0.7
    with pytest.raises(NothingToFit):
        fit_calibration({})
