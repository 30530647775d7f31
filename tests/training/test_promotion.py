"""Promotion: worse models are refused."""

import pytest

from training.promotion import NotComparable, decide, strongest_of


def solved(right: int, of: int = 200) -> dict[str, bool]:
    return {f"p{number}": number < right for number in range(of)}


@pytest.mark.parametrize(
    ("candidate", "is_promoted"), [(150, True), (140, True), (138, True), (137, False), (0, False)]
)
def test_a_loss_above_the_tolerance_is_refused(candidate: int, is_promoted: bool) -> None:  # noqa: FBT001
    decision = decide(solved(candidate), solved(140), tolerance=0.01)
    assert decision.is_promoted is is_promoted
    assert (decision.candidate, decision.incumbent, decision.problems) == (candidate / 200, 0.7, 200)


@pytest.mark.parametrize(("right", "strongest"), [([140], 0), ([140, 139, 138], 0), ([138, 140, 140, 139], 2)])
def test_candidates_are_compared_with_the_strongest_so_far(right: list[int], strongest: int) -> None:
    assert strongest_of([solved(one) for one in right]) == strongest


def test_models_measured_on_other_problems_are_not_compared() -> None:
    with pytest.raises(NotComparable, match="candidate has 200, the incumbent 199, of which 199 are the same"):
        decide(solved(10), solved(10, of=199), tolerance=0.01)
