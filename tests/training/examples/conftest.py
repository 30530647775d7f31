"""Real searches of the arithmetic world, for properties that hold for every tree."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from search import Budget, SearchConfig, Tree, Values, search
from search.testing.fakes import AnswerKey, SteppingClock, arithmetic_parts

Searched = Callable[[Sequence[int], Values], list[Tree]]

PROBLEM = "3+4+5"


@pytest.fixture(scope="session")
def searched() -> Searched:
    """A function that searches the same problem once for each seed: about half of the trajectories are right."""

    async def tree(seed: int, values: Values) -> Tree:
        config = SearchConfig(candidates=4, values=values)
        parts = arithmetic_parts(error_rate=0.4, judge=AnswerKey("12"))
        budget = Budget(trajectories=12)
        return (await search(PROBLEM, parts=parts, config=config, budget=budget, seed=seed, now=SteppingClock())).tree

    def trees(seeds: Sequence[int], values: Values) -> list[Tree]:
        return [asyncio.run(tree(seed, values)) for seed in seeds]

    return trees
