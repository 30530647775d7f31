"""The budget: limits, and when each is reached."""

import math

import pytest

from search.budget import Budget
from search.outcomes import StopReason


def test_a_budget_without_any_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a limit"):
        Budget()


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="trajectories must be at least 1, not 0"):
        Budget(trajectories=0)
    with pytest.raises(ValueError, match="tokens must be at least 1, not -5"):
        Budget(tokens=-5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_time_limits_are_finite_and_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be a finite number above 0"):
        Budget(seconds=seconds)


def test_a_limit_is_reached_when_it_is_met() -> None:
    budget = Budget(trajectories=4, tokens=100, seconds=2.0)
    assert budget.stop_reason(trajectories=3, tokens=99, seconds=1.9) is None
    assert budget.stop_reason(trajectories=4, tokens=0, seconds=0.0) is StopReason.BUDGET
    assert budget.stop_reason(trajectories=0, tokens=100, seconds=0.0) is StopReason.BUDGET
    assert budget.stop_reason(trajectories=0, tokens=0, seconds=2.0) is StopReason.DEADLINE


def test_what_is_not_limited_never_stops_a_search() -> None:
    assert Budget(tokens=5).stop_reason(trajectories=10**6, tokens=4, seconds=1e9) is None


def test_trajectories_left_are_counted_down_to_zero() -> None:
    assert Budget(trajectories=4).trajectories_left(1) == 3
    assert Budget(trajectories=4).trajectories_left(9) == 0
    assert Budget(tokens=4).trajectories_left(1) is None
