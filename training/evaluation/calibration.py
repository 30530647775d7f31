"""Calibration: fits the confidence of a search to outcomes on validation problems. Pure; stores nothing.

    confidence = sigmoid(scale * logit(share) + budget_slope * ln(trajectories) + offset)

The fit has the greatest likelihood over the answers at several budgets of each problem. Every problem counts once,
however many of its answers are used. Problems without an answer, and answers whose votes weigh nothing, have the
confidence 0 whatever the fit, and are left out.

A ridge pulls the coefficients to those of an unfitted confidence, as strongly as one problem would. So a few problems
change little, and where all answers are right, or all wrong, the fit is sure but finite. A larger share must never mean
a smaller confidence: where the best scale is negative, it is 0, and the others are fitted alone.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from search import Calibration
from training.evaluation.figures import Claim, Measured, claims, curve
from training.evaluation.intervals import Floats
from training.evaluation.solutions import Method

RIDGE = 1.0
"""The weight of one problem: a normal prior of width 1 around the unfitted confidence."""

_UNFITTED = np.array([1.0, 0.0, 0.0])
_STEPS = 100
_SMALL = 1e-10


class NothingToFit(Exception):
    """The validation problems gave no answer to fit the confidence to."""


def fit_calibration(measured: Measured) -> Calibration:
    """The fit to all answers of `mcts` at the budgets of its curve. Raises `NothingToFit`."""
    budgets = [point.trajectories for point in curve(measured, Method.MCTS)]
    return fit_claims([claim for budget in budgets for claim in claims(measured, at=budget)])


def fit_claims(made: Sequence[Claim]) -> Calibration:
    """The fit to claims whose confidences are vote shares. Raises `NothingToFit`."""
    usable = [claim for claim in made if 0.0 < claim.confidence < 1.0]
    if not usable:
        raise NothingToFit(f"none of the {len(made)} answers has a share of the votes between 0 and 1")
    share = np.array([claim.confidence for claim in usable])
    trajectories = np.array([max(1, claim.trajectories) for claim in usable], dtype=float)
    inputs = np.stack([np.log(share) - np.log1p(-share), np.log(trajectories), np.ones(len(usable))], axis=1)
    outcome = np.array([claim.is_right for claim in usable], dtype=float)
    of_problem = Counter(claim.problem_id for claim in usable)
    weight = np.array([1.0 / of_problem[claim.problem_id] for claim in usable])

    coefficients = _most_likely(inputs, outcome, weight, around=_UNFITTED)
    if coefficients[0] < 0.0:
        rest = _most_likely(inputs[:, 1:], outcome, weight, around=_UNFITTED[1:])
        coefficients = np.concatenate([[0.0], rest])
    scale, slope, offset = (float(coefficient) for coefficient in coefficients)
    return Calibration(scale=scale, budget_slope=slope, offset=offset)


def calibrated(calibration: Calibration, claim: Claim) -> float:
    """The confidence that the fit gives to a claim whose confidence is a vote share."""
    return calibration.confidence(claim.confidence, trajectories=claim.trajectories)


def _most_likely(inputs: Floats, outcome: Floats, weight: Floats, *, around: Floats) -> Floats:
    """Logistic regression by Newton's method, halving steps that go too far."""
    coefficients, loss = around, _loss(inputs, outcome, weight, coefficients=around, around=around)
    for _ in range(_STEPS):
        chance = _sigmoid(inputs @ coefficients)
        slope = inputs.T @ (weight * (chance - outcome)) + RIDGE * (coefficients - around)
        curvature = (inputs.T * (weight * chance * (1.0 - chance))) @ inputs + RIDGE * np.eye(len(around))
        step = np.linalg.solve(curvature, slope)
        while np.abs(step).max() > _SMALL:
            tried = coefficients - step
            tried_loss = _loss(inputs, outcome, weight, coefficients=tried, around=around)
            if tried_loss <= loss:
                break
            step = step / 2
        else:
            return coefficients
        coefficients, loss = tried, tried_loss
    return coefficients


def _loss(inputs: Floats, outcome: Floats, weight: Floats, *, coefficients: Floats, around: Floats) -> float:
    total = inputs @ coefficients
    likelihood = np.logaddexp(0.0, total) - outcome * total
    return float(weight @ likelihood + RIDGE / 2 * ((coefficients - around) ** 2).sum())


def _sigmoid(total: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -total))
