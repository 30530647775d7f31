"""The entry to the search: checks the request, runs the strategy asked for, and keeps the deadline."""

import asyncio
from collections.abc import Callable
from typing import assert_never

from search.baselines import greedy, majority
from search.budget import Budget
from search.config import SearchConfig, Strategy
from search.events import OnEvent
from search.mcts import mcts
from search.outcomes import StopReason
from search.parts import Parts, check_parts
from search.run import Run, SearchResult
from search.tree import Tree


async def search(  # noqa: PLR0913 - the one door to the package: every argument is a part, a setting or a limit
    problem: str,
    *,
    parts: Parts,
    config: SearchConfig,
    budget: Budget,
    seed: int,
    now: Callable[[], float],
    on_event: OnEvent | None = None,
    tree: Tree | None = None,
) -> SearchResult:
    """Search for the answer to `problem`.

    `now` reads a monotonic clock in seconds. `tree` continues an earlier search of the same problem with the same
    config and seed; it is changed in place, and is whole at every await, so that a caller who cancels still holds
    everything found so far. Cancelling ends every call in flight. What a part raises ends the search and comes out
    as it was raised; `BrokenPart` says that a part broke its contract.
    """
    check_parts(config, parts)
    tree = Tree(problem) if tree is None else tree
    if tree.problem != problem:
        raise ValueError(f"the tree was made for another problem: {tree.problem!r}, not {problem!r}")
    run = Run(tree, parts=parts, config=config, budget=budget, seed=seed, now=now)
    return run.result(await _within_deadline(run, on_event))


async def _within_deadline(run: Run, on_event: OnEvent | None) -> StopReason:
    limit_s = run.budget.seconds
    left_s = None if limit_s is None else max(0.0, limit_s - run.elapsed_s())
    deadline = asyncio.timeout(left_s)
    try:
        async with deadline:
            await run.begin(on_event)
            return await _strategy(run)
    except TimeoutError:
        # An engine may time out on its own account: that is a broken part, not our deadline.
        if not deadline.expired():
            raise
        return StopReason.DEADLINE


async def _strategy(run: Run) -> StopReason:
    match run.config.strategy:
        case Strategy.MCTS:
            return await mcts(run)
        case Strategy.GREEDY:
            return await greedy(run)
        case Strategy.MAJORITY:
            return await majority(run)
        case _:
            assert_never(run.config.strategy)
