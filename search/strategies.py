"""The entry to the search: checks the request, runs the strategy asked for, and keeps the deadline."""

import asyncio
from collections.abc import Callable
from typing import assert_never

from search.baselines import greedy, independent
from search.beam import step_beam
from search.budget import Budget
from search.config import SearchConfig, Strategy
from search.events import OnEvent
from search.mcts import mcts
from search.operations import Operations, operations
from search.outcomes import StopReason
from search.parts import Parts, check_parts
from search.run import Run, SearchResult
from search.stop import Stop
from search.tape import Beginning, Ending, RecordEnds, Tape
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
    stop: Stop | None = None,
) -> SearchResult:
    """Search for the answer to `problem`.

    `now` reads a monotonic clock in seconds. `tree` continues an earlier search of the same problem with the same
    config and seed; it is changed in place, and is whole at every await, so that a caller who cancels still holds
    everything found so far. Cancelling ends every call in flight; `stop` does so too, and still gives the result. What
    a part raises ends the search and comes out
    as it was raised; `BrokenPart` says that a part broke its contract.
    """
    check_parts(config, parts)
    stop = stop or Stop()
    tree = Tree(problem) if tree is None else tree
    if tree.problem != problem:
        raise ValueError(f"the tree was made for another problem: {tree.problem!r}, not {problem!r}")
    run = Run(tree, parts=parts, config=config, budget=budget, seed=seed, now=now)
    if parts.tape is None:
        return run.result(await _within_deadline(run, stop, on_event))
    beginning = Beginning(
        problem=problem,
        config=config,
        budget=budget,
        seed=seed,
        has_scorer=parts.scorer is not None,
        has_judge=parts.judge is not None,
        tree=tree,
    )
    return run.result(await _on_tape(run, parts.tape, beginning, stop, on_event))


async def _on_tape(run: Run, tape: Tape, beginning: Beginning, stop: Stop, on_event: OnEvent | None) -> StopReason:
    tape.begin(beginning)
    try:
        reason = await _within_deadline(run, stop, on_event)
    except asyncio.CancelledError:
        tape.end(Ending(applied=run.tree.applied, stop_reason=StopReason.CANCELLED))
        raise
    except BaseException as error:
        described = f"{type(error).__name__}: {error}"
        tape.end(Ending(applied=run.tree.applied, stop_reason=None, error=described))
        raise
    tape.end(Ending(applied=run.tree.applied, stop_reason=reason))
    return reason


async def _within_deadline(run: Run, stop: Stop, on_event: OnEvent | None) -> StopReason:
    limit_s = run.budget.seconds
    left_s = None if limit_s is None else max(0.0, limit_s - run.elapsed_s())
    deadline = asyncio.timeout(left_s)
    try:
        async with deadline:
            with stop.ending(deadline):
                return await _run(run, on_event)
    except TimeoutError:
        # An engine may time out on its own account: that is a broken part, not our deadline.
        if not deadline.expired():
            raise
        return StopReason.CANCELLED if stop.is_asked else StopReason.DEADLINE
    except RecordEnds as end:
        return end.reason


async def _run(run: Run, on_event: OnEvent | None) -> StopReason:
    async with operations(run.tree, run.tape) as calls:
        await run.begin(calls, on_event)
        return await _strategy(run, calls)


async def _strategy(run: Run, calls: Operations) -> StopReason:
    match run.config.strategy:
        case Strategy.MCTS:
            return await mcts(run, calls)
        case Strategy.GREEDY:
            return await greedy(run, calls)
        case Strategy.MAJORITY | Strategy.BEST_OF_N:
            return await independent(run, calls)
        case Strategy.STEP_BEAM:
            return await step_beam(run, calls)
        case _:
            assert_never(run.config.strategy)
