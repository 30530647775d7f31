"""Request seeds: the same for the same request, apart for any other."""

import pytest

from search.expansion import request_seed
from search.outcomes import CandidateStop
from search.protocols import Path, PathStep


def path(*texts: str, problem: str = "p", stop: CandidateStop = CandidateStop.END_OF_STEP) -> Path:
    return Path(problem=problem, steps=tuple(PathStep(text=text, token_ids=(), stop=stop) for text in texts))


def test_the_same_request_gets_the_same_seed() -> None:
    assert request_seed(1, path("a", "b"), draw=0) == request_seed(1, path("a", "b"), draw=0)


def test_seeds_do_not_change_between_releases() -> None:
    assert request_seed(0, path(), draw=0) == 3877063743378195959


@pytest.mark.parametrize(
    "other",
    [
        request_seed(2, path("a", "b"), draw=0),
        request_seed(1, path("a", "b"), draw=1),
        request_seed(1, path("ab"), draw=0),
        request_seed(1, path("a", "b", problem="q"), draw=0),
        request_seed(1, path("a", "b", stop=CandidateStop.END_OF_CODE), draw=0),
        request_seed(11, path("a", "b"), draw=0),
    ],
)
def test_any_other_request_gets_another_seed(other: int) -> None:
    assert other != request_seed(1, path("a", "b"), draw=0)


def test_seeds_fit_into_a_signed_64_bit_number() -> None:
    seeds = [request_seed(seed, path(), draw=0) for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_a_problem_that_is_not_valid_unicode_has_a_seed() -> None:
    assert request_seed(0, path(problem="\ud800"), draw=0) >= 0
