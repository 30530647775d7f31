"""Confidence intervals: shares and paired differences over the same problems, by the bootstrap over problems."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


def share(is_right: Sequence[bool], *, seed: int = 0) -> Interval:
    """The share of problems solved."""
    return _bootstrap(np.asarray(is_right, dtype=float), seed)


def paired_difference(a: Sequence[bool], b: Sequence[bool], *, seed: int = 0) -> Interval:
    """How much larger a's share is than b's, when both answered the same problems in the same order."""
    if len(a) != len(b):
        raise ValueError(f"paired methods must answer the same problems: {len(a)} against {len(b)}")
    return _bootstrap(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), seed)


def _bootstrap(values: np.ndarray, seed: int) -> Interval:
    if not len(values):
        raise ValueError("no problems to average over")
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
