"""Intervals hold the truth about as often as they say, and pairing narrows them."""

import random

import pytest

from training.statistics import paired_difference, share


def test_the_interval_surrounds_the_mean() -> None:
    interval = share([True] * 60 + [False] * 40)
    assert interval.mean == pytest.approx(0.6)
    # The normal approximation: 0.6 +- 1.96 sqrt(0.24 / 100).
    assert (interval.low, interval.high) == pytest.approx((0.504, 0.696), abs=0.02)


@pytest.mark.slow
def test_the_interval_covers_the_true_share_about_19_times_in_20() -> None:
    rng = random.Random(0)
    intervals = [share([rng.uniform(0, 1) < 0.7 for _ in range(120)], seed=draw) for draw in range(60)]
    assert sum(interval.low <= 0.7 <= interval.high for interval in intervals) >= 52


def test_pairing_sees_a_small_gain_on_the_same_problems() -> None:
    worse = [index % 2 == 0 for index in range(200)]
    better = [right or index % 20 == 1 for index, right in enumerate(worse)]
    gain = paired_difference(better, worse)
    assert gain.mean == pytest.approx(0.05)
    assert gain.low > 0
    assert share(better).low < share(worse).high


def test_the_same_numbers_give_the_same_interval() -> None:
    assert share([True, False, True]) == share([True, False, True])


def test_methods_that_answered_different_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="3 against 2"):
        paired_difference([True, False, True], [True, False])


def test_no_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="no problems"):
        share([])
