"""Settings: defaults of the paper, and refused values."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from search.config import Calibration, SearchConfig, Selection, Strategy

shares = st.floats(0, 1, exclude_max=True)
trajectories = st.integers(0, 10_000)
coefficients = st.floats(-1e6, 1e6)
calibrations = st.builds(Calibration, scale=st.floats(0, 1e6), budget_slope=coefficients, offset=coefficients)


def test_defaults_are_those_of_the_paper_where_it_gives_any() -> None:
    config = SearchConfig()
    assert (config.max_depth, config.exploration) == (16, 2.0)


@pytest.mark.parametrize(
    ("strategy", "selection"),
    [
        (Strategy.MCTS, Selection.WEIGHTED_VOTE),
        (Strategy.GREEDY, Selection.MAJORITY),
        (Strategy.MAJORITY, Selection.MAJORITY),
        (Strategy.BEST_OF_N, Selection.BEST),
        (Strategy.STEP_BEAM, Selection.WEIGHTED_VOTE),
    ],
)
def test_each_strategy_has_its_own_way_to_choose_the_answer(strategy: Strategy, selection: Selection) -> None:
    assert SearchConfig(strategy=strategy).answer_selection is selection
    assert SearchConfig(strategy=strategy, selection=Selection.BEST).answer_selection is Selection.BEST


def test_counts_below_one_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="candidates must be at least 1, not 0"):
        SearchConfig(candidates=0)
    with pytest.raises(ValueError, match="max_depth must be at least 1, not 0"):
        SearchConfig(max_depth=0)
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        SearchConfig(top_k=0)
    with pytest.raises(ValueError, match="parallel_rollouts must be at least 1, not 0"):
        SearchConfig(parallel_rollouts=0)
    with pytest.raises(ValueError, match="beam_width must be at least 1, not 0"):
        SearchConfig(beam_width=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, math.nan])
def test_enough_confidence_lies_between_nothing_and_certainty(confidence: float) -> None:
    with pytest.raises(ValueError, match="stop_at_confidence must lie between 0 and 1"):
        SearchConfig(stop_at_confidence=confidence)


def test_defaults_are_one_rollout_at_a_time_and_no_early_stop() -> None:
    config = SearchConfig()
    assert (config.parallel_rollouts, config.stop_when_decided, config.stop_at_confidence) == (1, False, None)


@pytest.mark.parametrize("exploration", [-0.1, math.inf, math.nan])
def test_exploration_is_finite_and_not_negative(exploration: float) -> None:
    with pytest.raises(ValueError, match="exploration"):
        SearchConfig(exploration=exploration)


@given(calibrations, shares, trajectories)
@example(Calibration(scale=1e6, budget_slope=1e6, offset=1e6), math.nextafter(1, 0), 10_000)
@example(Calibration(scale=1e6, budget_slope=-1e6, offset=-1e6), math.nextafter(0, 1), 10_000)
def test_a_fitted_confidence_lies_from_0_to_below_1(calibration: Calibration, share: float, count: int) -> None:
    assert 0.0 <= calibration.confidence(share, trajectories=count) < 1.0


@given(calibrations, shares, shares, trajectories)
def test_a_larger_share_never_means_a_smaller_confidence(
    calibration: Calibration, one: float, other: float, count: int
) -> None:
    smaller, larger = sorted([one, other])
    lower, higher = (calibration.confidence(share, trajectories=count) for share in (smaller, larger))
    assert lower <= higher + 1e-12  # the last digits of a logarithm


@given(shares, trajectories)
def test_the_neutral_coefficients_keep_the_share(share: float, count: int) -> None:
    assume(share == 0 or share > 1e-300)
    neutral = Calibration(scale=1.0, budget_slope=0.0, offset=0.0)
    assert neutral.confidence(share, trajectories=count) == pytest.approx(share, rel=1e-9)


def test_a_fitted_confidence_is_the_logistic_of_its_terms() -> None:
    calibration = Calibration(scale=0.5, budget_slope=0.25, offset=-1.0)
    # logit(0.8) = ln 4 and ln 16 = 2 ln 4: half of one and a quarter of the other, less 1.
    expected = 1 / (1 + math.exp(1 - math.log(4)))
    assert calibration.confidence(0.8, trajectories=16) == pytest.approx(expected)
    assert calibration.confidence(0.8, trajectories=0) == calibration.confidence(0.8, trajectories=1)


@given(calibrations, trajectories)
def test_no_answer_has_no_confidence_whatever_the_fit(calibration: Calibration, count: int) -> None:
    assert calibration.confidence(0.0, trajectories=count) == 0.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": -0.1}, "scale must be at least 0, not -0.1"),
        ({"scale": math.nan}, "scale must lie within"),
        ({"budget_slope": math.inf}, "budget_slope must lie within"),
        ({"offset": -1e7}, "offset must lie within"),
    ],
)
def test_coefficients_that_are_no_fit_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Calibration(scale=1.0, budget_slope=0.0, offset=0.0), **wrong)


def test_only_a_search_as_in_the_fit_gets_the_calibration() -> None:
    fit = Calibration(scale=2.0, budget_slope=0.0, offset=0.0)
    assert SearchConfig().calibrated(fit).calibration is fit
    assert SearchConfig(selection=Selection.WEIGHTED_VOTE).calibrated(fit).calibration is fit
    others = [
        SearchConfig(selection=Selection.BEST),
        SearchConfig(strategy=Strategy.STEP_BEAM),
        SearchConfig(strategy=Strategy.MAJORITY),
    ]
    assert [config.calibrated(fit) for config in others] == others
    assert SearchConfig().calibrated(None) == SearchConfig()


def test_a_calibration_of_another_selection_is_refused() -> None:
    fit = Calibration(scale=2.0, budget_slope=0.0, offset=0.0, selection=Selection.BEST)
    with pytest.raises(ValueError, match="mcts with weighted_vote needs a calibration of its own, not one of mcts"):
        replace(SearchConfig(), calibration=fit)
