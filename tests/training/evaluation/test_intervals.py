"""Intervals: estimates equal hand-computed values; intervals contain the truth as often as stated, pairing narrows."""

import random

import numpy as np
import pytest

from training.evaluation.intervals import (
    area,
    area_under_curve,
    brier,
    calibration_error,
    errors_removed,
    mean,
    paired_difference,
    reliability,
    resampled_means,
    share,
)


def test_the_interval_of_a_share_is_the_normal_one() -> None:
    interval = share([True] * 60 + [False] * 40)
    assert interval.estimate == pytest.approx(0.6)
    # The normal approximation: 0.6 +- 1.96 sqrt(0.24 / 100).
    assert (interval.low, interval.high) == pytest.approx((0.504, 0.696), abs=0.01)


def test_the_interval_covers_the_share_19_times_in_20() -> None:
    rng = random.Random(0)
    intervals = [share([rng.uniform(0, 1) < 0.7 for _ in range(120)], seed=draw) for draw in range(200)]
    covering = sum(interval.low <= 0.7 <= interval.high for interval in intervals)
    assert 180 <= covering <= 198


def test_all_right_gives_the_exact_interval_of_a_share() -> None:
    interval = share([True] * 50)
    # Clopper and Pearson: 0.025^(1/50) = 0.9289.
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.9289, abs=1e-4)
    assert share([False] * 50).high == pytest.approx(0.0711, abs=1e-4)


def test_equal_methods_give_an_interval_around_zero() -> None:
    gain = paired_difference([True, False] * 25, [True, False] * 25)
    assert gain.estimate == 0.0
    assert (gain.low, gain.high) == pytest.approx((-0.0711, 0.0711), abs=1e-4)


def test_pairing_sees_a_small_gain_on_the_same_problems() -> None:
    worse = [index % 2 == 0 for index in range(200)]
    better = [right or index % 20 == 1 for index, right in enumerate(worse)]
    gain = paired_difference(better, worse)
    assert gain.estimate == pytest.approx(0.05)
    # Ten gains of 200: 0.05 +- 1.96 sqrt(0.05 * 0.95 / 200).
    assert (gain.low, gain.high) == pytest.approx((0.02, 0.08), abs=0.006)
    assert share(better).low < share(worse).high


def test_the_same_numbers_give_the_same_interval() -> None:
    assert share([True, False, True]) == share([True, False, True])


def test_methods_that_answered_different_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="3 against 2"):
        paired_difference([True, False, True], [True, False])


def test_errors_removed_is_the_share_of_errors_that_are_gone() -> None:
    # 40 errors before; 10 of these remain, and there is none elsewhere.
    before = [True] * 60 + [False] * 40
    after = [True] * 90 + [False] * 10
    removed = errors_removed(before, after)
    assert removed is not None
    assert removed.estimate == pytest.approx(0.75)
    # 30 of 40 errors: 0.75 +- 1.96 sqrt(0.75 * 0.25 / 40).
    assert (removed.low, removed.high) == pytest.approx((0.616, 0.884), abs=0.02)
    assert errors_removed([True], [False]) is None
    with pytest.raises(ValueError, match="1 against 2"):
        errors_removed([True], [True, False])


def test_all_errors_removed_has_the_exact_interval() -> None:
    removed = errors_removed([False] * 50, [True] * 50)
    assert removed is not None
    assert (removed.low, removed.high) == (pytest.approx(0.9289, abs=1e-4), 1.0)


def test_more_errors_than_before_are_removed_below_zero() -> None:
    removed = errors_removed([True] * 8 + [False] * 2, [True] * 6 + [False] * 4)
    assert removed is not None
    assert removed.estimate == pytest.approx(-1.0)


def test_no_problems_are_refused() -> None:
    for estimate in (share, mean):
        with pytest.raises(ValueError, match="no problems"):
            estimate([])


def test_a_mean_of_amounts_has_the_normal_interval() -> None:
    tokens = [float(number) for number in range(1, 101)]
    interval = mean(tokens)
    assert interval.estimate == 50.5
    half = 1.96 * float(np.std(tokens)) / 10
    assert (interval.low, interval.high) == pytest.approx((50.5 - half, 50.5 + half), abs=0.5)


def test_rows_are_drawn_as_a_whole() -> None:
    columns = np.array([[1.0, -1.0], [2.0, -2.0], [5.0, -5.0]])
    drawn = resampled_means(columns, seed=1, resamples=50)
    assert drawn.shape == (50, 2)
    assert np.allclose(drawn[:, 0], -drawn[:, 1])
    assert len(np.unique(drawn[:, 0])) > 3


def test_area_is_the_share_of_pairs_in_order() -> None:
    # Right: 0.9, 0.4; wrong: 0.6, 0.4. In order: 0.9 twice, 0.4 against 0.4 a half. 2.5 of 4 pairs.
    area = area_under_curve([0.9, 0.4, 0.6, 0.4], [True, True, False, False])
    assert area is not None
    assert area.estimate == pytest.approx(2.5 / 4)
    assert area.low <= area.estimate <= area.high


def test_area_of_one_side_alone_is_none() -> None:
    assert area_under_curve([0.1, 0.2], [True, True]) is None
    assert area_under_curve([0.1, 0.2], [False, False]) is None


def test_area_needs_no_more_than_one_point_of_each_side() -> None:
    assert area([0.9, 0.1], [True, False]) == 1.0
    assert area([0.1, 0.9], [True, False]) == 0.0
    assert area([0.5, 0.5], [True, False]) == 0.5
    assert area([0.5], [True]) is None
    assert area([], []) is None


def test_points_of_one_problem_are_drawn_together() -> None:
    # Each problem has its four points; as points of their own there would seem to be four times as many.
    rng = random.Random(3)
    scores, right, problems = list[float](), list[bool](), list[int]()
    for problem in range(40):
        is_right, score = rng.uniform(0, 1) < 0.5, rng.uniform(0, 1)
        scores += [score + 0.2 * is_right] * 4
        right += [is_right] * 4
        problems += [problem] * 4
    together = area_under_curve(scores, right, problems=problems)
    apart = area_under_curve(scores, right)
    assert together is not None
    assert apart is not None
    assert together.estimate == apart.estimate
    assert together.high - together.low > 1.6 * (apart.high - apart.low)


def test_brier_is_the_mean_square_against_the_base_rate() -> None:
    scores = brier([0.9, 0.6, 0.3, 0.2], [True, True, False, True])
    # (0.01 + 0.16 + 0.09 + 0.64) / 4, and 3/4 * 1/4.
    assert scores.score.estimate == pytest.approx(0.225)
    assert scores.base_rate == pytest.approx(0.1875)
    assert scores.gain.estimate == pytest.approx(-0.0375)
    assert scores.gain.low < scores.gain.estimate < scores.gain.high


def test_a_confidence_that_knows_all_gains_the_whole_base_rate() -> None:
    right = [index % 4 != 0 for index in range(100)]
    scores = brier([float(is_right) for is_right in right], right)
    assert scores.score.estimate == 0.0
    assert scores.gain.estimate == pytest.approx(0.1875)
    assert scores.gain.low > 0.13


def test_bins_hold_equally_many_problems() -> None:
    confidence = [0.01 * number for number in range(40)]
    table = reliability(confidence, [number % 2 == 0 for number in range(40)], bins=4)
    assert [row.problems for row in table] == [10, 10, 10, 10]
    assert [(row.low, row.high) for row in table][1] == (pytest.approx(0.10), pytest.approx(0.19))
    assert [row.confidence for row in table] == pytest.approx([0.045, 0.145, 0.245, 0.345])
    assert [row.share.estimate for row in table] == [0.5] * 4


def test_equal_confidences_stay_in_one_bin() -> None:
    table = reliability([0.5] * 30 + [0.9] * 2, [True] * 32)
    assert [(row.problems, row.low) for row in table] == [(30, 0.5), (2, 0.9)]


def test_calibration_error_is_the_mean_distance_of_bins() -> None:
    # Bin 1: confidence 0.2, none of 2 right. Bin 2: confidence 0.8, both right. Distance 0.2 in both.
    error = calibration_error([0.2, 0.2, 0.8, 0.8], [False, False, True, True], bins=2)
    assert error.estimate == pytest.approx(0.2)
    # Bin 1: |0.2 - 0.5| over 2 of 4; bin 2: |0.8 - 1| over 2 of 4.
    assert calibration_error([0.2, 0.2, 0.8, 0.8], [False, True, True, True], bins=2).estimate == pytest.approx(0.25)


def test_the_interval_of_a_true_confidence_reaches_down_to_0() -> None:
    rng = random.Random(5)
    confidence = [rng.uniform(0.5, 1) for _ in range(1000)]
    right = [rng.uniform(0, 1) < sure for sure in confidence]
    error = calibration_error(confidence, right)
    assert error.low < 0.015
    assert error.high < 0.05
    wrong = calibration_error([min(1.0, sure + 0.15) for sure in confidence], right)
    assert wrong.low > 0.08
