"""Settings: defaults of the paper, and refused values."""

import math

import pytest

from search.config import SearchConfig, Selection, Strategy


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
