"""Intervals: estimates over problems with their 95 % intervals, by the bootstrap. Pure.

A bootstrap draws problems with replacement, never single attempts: attempts at one problem belong together. Paired
methods are compared on the same draw. Means are drawn by how often each distinct value turns up, so 10,000 resamples of
a thousand problems take milliseconds. Sums and quantiles only: knows nothing of methods, curves or files.

If all problems agree, resamples agree too, and their interval would have no width. Then the interval is the exact one
of a share (Clopper and Pearson): after N of N problems, the share of others is at most 1 - 0.025^(1/N).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
"""Of shares: from seed to seed the ends of an interval move by about 1 % of its width."""
SLOW_RESAMPLES = 2_000
"""Of means of many distinct values, where each resample costs as much as there are values."""
CURVE_RESAMPLES = 1_000
"""Of areas under a curve, which have to be computed again from all points."""
BINS = 10
"""Of reliability tables and of the calibration error."""

_CHUNK = 4_000_000
_FEW_VALUES = 100
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float


def share(is_right: Sequence[bool], *, seed: int = 0) -> Interval:
    """The share of problems solved."""
    return _mean(np.asarray(is_right, dtype=float), seed, bounds=(0.0, 1.0))


def paired_difference(a: Sequence[bool], b: Sequence[bool], *, seed: int = 0) -> Interval:
    """How much larger a's share is than b's, when both answered the same problems in the same order."""
    if len(a) != len(b):
        raise ValueError(f"paired methods must answer the same problems: {len(a)} against {len(b)}")
    return _mean(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), seed, bounds=(-1.0, 1.0))


def errors_removed(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Interval | None:
    """The share of the errors before that are gone after, on the same problems in the same order; below 0 for more.

    None without an error before. Resamples without one are left out.
    """
    if len(before) != len(after):
        raise ValueError(f"paired methods must answer the same problems: {len(before)} against {len(after)}")
    wrong = 1.0 - np.stack([np.asarray(before, dtype=float), np.asarray(after, dtype=float)], axis=1)
    errors = wrong.mean(axis=0)
    if not len(before) or errors[0] == 0:
        return None
    if errors[1] == 0:
        return Interval(1.0, float(_TAIL ** (1.0 / wrong[:, 0].sum())), 1.0)
    drawn = resampled_means(wrong, seed=seed)
    drawn = drawn[drawn[:, 0] > 0]
    return _percentiles(float(1.0 - errors[1] / errors[0]), 1.0 - drawn[:, 1] / drawn[:, 0])


def mean(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of an amount, such as tokens per problem."""
    return _mean(np.asarray(values, dtype=float), seed)


def _mean(values: Floats, seed: int, *, bounds: tuple[float, float] | None = None) -> Interval:
    if not len(values):
        raise ValueError("no problems to average over")
    estimate = float(values.mean())
    if bounds is not None and np.ptp(values) == 0:
        others = 1.0 - _TAIL ** (1.0 / len(values))
        low, high = ((1.0 - others) * estimate + others * bound for bound in bounds)
        return Interval(estimate, low, high)
    return _percentiles(estimate, resampled_means(values[:, None], seed=seed)[:, 0])


def resampled_means(columns: Floats, *, seed: int, resamples: int | None = None) -> Floats:
    """The mean of each column in each resample of the rows; a row holds what is known of one problem."""
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    resamples = resamples or (RESAMPLES if len(rows) <= _FEW_VALUES else SLOW_RESAMPLES)
    total = len(columns)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(rows))
    drawn = [
        rng.multinomial(total, counts / total, size=min(step, resamples - start)) @ rows
        for start in range(0, resamples, step)
    ]
    return np.concatenate(drawn) / total


def _percentiles(estimate: float, resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, [_TAIL, 1.0 - _TAIL])
    return Interval(estimate, float(low), float(high))


def _turned(estimate: float, resampled: Floats) -> Interval:
    """The basic bootstrap: what resampling adds to the estimate, noise has added to the estimate before."""
    low, high = np.quantile(resampled, [_TAIL, 1.0 - _TAIL])
    return Interval(estimate, max(0.0, float(2 * estimate - high)), max(0.0, float(2 * estimate - low)))


class _Ranked:
    """Points in the order of their scores; those of equal scores form a group."""

    def __init__(self, scores: Sequence[float], is_right: Sequence[bool]) -> None:
        given = np.asarray(scores, dtype=float)
        self.order = np.argsort(given, kind="stable")
        in_order = given[self.order]
        self.right = np.asarray(is_right, dtype=float)[self.order]
        self.groups = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
        self.has_both = bool(self.right.any()) and not bool(self.right.all())

    def areas(self, times: Floats) -> Floats:
        """Area under the curve for each row of `times`: how often each point was drawn. NaN where a side is empty."""
        right = np.add.reduceat(times * self.right, self.groups, axis=1)
        wrong = np.add.reduceat(times * (1.0 - self.right), self.groups, axis=1)
        below = np.cumsum(wrong, axis=1) - wrong / 2
        sides = right.sum(axis=1) * wrong.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (right * below).sum(axis=1) / sides


def area(scores: Sequence[float], is_right: Sequence[bool]) -> float | None:
    """AUROC: the chance that a right point has a higher score than a wrong one, a tie counting half.

    None where all points are right or all wrong.
    """
    ranked = _Ranked(scores, is_right)
    return float(ranked.areas(np.ones((1, len(ranked.right))))[0]) if ranked.has_both else None


def area_under_curve(
    scores: Sequence[float],
    is_right: Sequence[bool],
    *,
    problems: Sequence[int] | None = None,
    seed: int = 0,
    resamples: int = CURVE_RESAMPLES,
) -> Interval | None:
    """`area` with its interval.

    `problems` gives the number of each point's problem, from 0; without it each point is a problem of its own.
    """
    estimate = area(scores, is_right)
    if estimate is None:
        return None
    ranked = _Ranked(scores, is_right)
    owner = (np.arange(len(scores)) if problems is None else np.asarray(problems, dtype=np.intp))[ranked.order]
    count = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(len(owner), count))
    areas: list[Floats] = []
    for start in range(0, resamples, step):
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=min(step, resamples - start))
        areas.append(ranked.areas(drawn[:, owner].astype(float)))
    found = np.concatenate(areas)
    return _percentiles(estimate, found[np.isfinite(found)])


class BrierScores(NamedTuple):
    """The mean squared error of confidences, 0 at best, and how much better it is than one number for all problems."""

    score: Interval
    base_rate: float
    """The score of the share of right answers, given as confidence for every problem."""
    gain: Interval
    """`base_rate` minus `score`: above 0 is better."""


def brier(confidence: Sequence[float], is_right: Sequence[bool], *, seed: int = 0) -> BrierScores:
    """Brier score against the base rate of the same problems, drawn together."""
    outcome = np.asarray(is_right, dtype=float)
    squares = (np.asarray(confidence, dtype=float) - outcome) ** 2
    if not len(outcome):
        raise ValueError("no problems to average over")
    drawn = resampled_means(np.stack([squares, outcome], axis=1), seed=seed)
    rate = float(outcome.mean())
    base_rate, score = rate * (1 - rate), float(squares.mean())
    gains = drawn[:, 1] * (1 - drawn[:, 1]) - drawn[:, 0]
    return BrierScores(_percentiles(score, drawn[:, 0]), base_rate, _percentiles(base_rate - score, gains))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Problems of about the same confidence."""

    problems: int
    low: float
    high: float
    """Least and greatest confidence."""
    confidence: float
    """Mean."""
    share: Interval
    """Of right answers."""


def reliability(
    confidence: Sequence[float], is_right: Sequence[bool], *, bins: int = BINS, seed: int = 0
) -> list[ReliabilityBin]:
    """Mean confidence against the share of right answers, in bins of about equally many problems.

    Bins of equal width would be nearly empty at the low end: most confidences of a good search lie close together.
    Equal confidences are never parted, so a bin may be larger, and there may be fewer bins.
    """
    given, outcome = np.asarray(confidence, dtype=float), np.asarray(is_right, dtype=bool)
    number = _bin_numbers(given, bins)
    table: list[ReliabilityBin] = []
    for bin_number in np.unique(number):
        chosen = number == bin_number
        inside = given[chosen]
        table.append(
            ReliabilityBin(
                problems=len(inside),
                low=float(inside.min()),
                high=float(inside.max()),
                confidence=float(inside.mean()),
                share=share(outcome[chosen].tolist(), seed=seed),
            )
        )
    return table


def calibration_error(
    confidence: Sequence[float], is_right: Sequence[bool], *, bins: int = BINS, seed: int = 0
) -> Interval:
    """ECE: the mean distance between confidence and share of right answers over the bins of `reliability`.

    Noise in the bins adds to it: a perfect confidence has an ECE of about 0.03 on a thousand problems. A resample adds
    the same once more, so the interval is turned around the estimate (the basic bootstrap).
    """
    given, outcome = np.asarray(confidence, dtype=float), np.asarray(is_right, dtype=float)
    if not len(given):
        raise ValueError("no problems to average over")
    number = _bin_numbers(given, bins)
    # |mean of (confidence - outcome) over the bin| times its share of problems, for a bin a column.
    gaps = np.where(number[:, None] == np.unique(number)[None, :], (given - outcome)[:, None], 0.0)
    drawn = np.abs(resampled_means(gaps, seed=seed)).sum(axis=1)
    return _turned(float(np.abs(gaps.mean(axis=0)).sum()), drawn)


def _bin_numbers(confidence: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each problem, by the rank that the middle of its equals has."""
    values, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    assert len(values) > 0
    middle = np.cumsum(counts) - counts / 2
    return np.minimum((middle * bins / len(confidence)).astype(np.intp), bins - 1)[inverse]
