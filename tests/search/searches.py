"""Searches and policies that several test files use."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from search import Budget, OnEvent, OnLine, Parts, SearchConfig, SearchResult, Stop, Tree
from search import search as run_search
from search.protocols import Candidate, CodeRunner, Path, Policy
from search.testing.fakes import ArithmeticPolicy, FunctionScorer, SteppingClock, StringEquality, hashed_score

PROBLEM = "3+4+5+6+7"


def scripted(policy: Policy, runner: CodeRunner) -> Parts:
    return Parts(policy=policy, runner=runner, equality=StringEquality(), scorer=FunctionScorer(hashed_score))


async def think(
    given: Parts,
    config: SearchConfig | None = None,
    budget: Budget | None = None,
    *,
    problem: str = PROBLEM,
    seed: int = 1,
    clock: Callable[[], float] | None = None,
    tree: Tree | None = None,
    on_event: OnEvent | None = None,
    stop: Stop | None = None,
    record: OnLine | None = None,
) -> SearchResult:
    """Search with the settings of most tests."""
    return await run_search(
        problem,
        parts=given,
        config=config or SearchConfig(candidates=4),
        budget=budget or Budget(trajectories=12),
        seed=seed,
        now=clock or SteppingClock(),
        tree=tree,
        on_event=on_event,
        stop=stop,
        record=record,
    )


@dataclass
class StallingPolicy:
    """Answers `calls` requests, then keeps its callers waiting for ever; counts those it was made to give up."""

    calls: int
    inner: Policy = field(default_factory=lambda: ArithmeticPolicy(0.3))
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: int = 0

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        self.calls -= 1
        if self.calls >= 0:
            return await self.inner.propose(path, n, seed=seed)
        self.stalled.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.aborted += 1
        raise AssertionError
