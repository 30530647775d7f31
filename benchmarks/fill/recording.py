"""Recording: the calls that searches made, to be replayed without the searches, one kind at a time."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from search import (
    Call,
    CodeRunner,
    Parts,
    Path,
    Policy,
    PolicyCall,
    RunnerCall,
    ScorerCall,
    Snapshot,
    StepScorer,
    listening,
)

OpenRunner = Callable[[int], AbstractAsyncContextManager[CodeRunner]]


@dataclass(slots=True)
class Recording:
    """The calls that returned before the recording was closed."""

    proposals: list[PolicyCall] = field(default_factory=list[PolicyCall])
    scorings: list[Sequence[Path]] = field(default_factory=list[Sequence[Path]])
    steps: dict[int, list[RunnerCall]] = field(default_factory=lambda: defaultdict[int, list[RunnerCall]](list))
    """By number of the search."""
    tokens: int = 0
    is_closed: bool = False

    def close(self) -> None:
        """End the recording: calls that return later are not part of it."""
        self.is_closed = True

    def wrap(self, parts: Parts, search: int) -> Parts:
        """Recorded parts for the search with that number."""
        return listening(parts, partial(self._listen, search))

    @asynccontextmanager
    async def _listen(self, search: int, call: Call) -> AsyncGenerator[None]:
        yield
        if self.is_closed:
            return
        match call:
            case PolicyCall():
                self.proposals.append(call)
                self.tokens += sum(len(candidate.token_ids) for candidate in call.result)
            case ScorerCall():
                self.scorings.append(call.paths)
            case RunnerCall():
                self.steps[search].append(call)
            case _:
                pass

    async def propose_again(self, policy: Policy) -> int:
        """Repeat all proposals at once. Returns the number of tokens generated."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(policy.propose(asked.path, asked.n, seed=asked.seed)) for asked in self.proposals
            ]
        return sum(len(candidate.token_ids) for task in tasks for candidate in task.result())

    async def score_again(self, scorer: StepScorer) -> None:
        """Repeat all scorings at once."""
        async with asyncio.TaskGroup() as group:
            for paths in self.scorings:
                group.create_task(scorer.score(paths))

    async def run_again(self, open_runner: OpenRunner, *, trees: int) -> None:
        """Repeat all code steps, each as soon as its parent exists, in as many trees at once as were live."""
        places = asyncio.Semaphore(trees)

        async def run_tree(search: int, steps: Sequence[RunnerCall]) -> None:
            async with places, open_runner(search) as runner:
                await _run_tree(runner, steps)

        async with asyncio.TaskGroup() as group:
            for search, steps in self.steps.items():
                group.create_task(run_tree(search, steps))


async def _run_tree(runner: CodeRunner, steps: Sequence[RunnerCall]) -> None:
    states: dict[Snapshot, asyncio.Future[Snapshot | None]] = {}
    for step in steps:
        if step.result.snapshot is not None:
            states[step.result.snapshot] = asyncio.get_running_loop().create_future()

    async def run(step: RunnerCall) -> None:
        parent = None if step.parent is None else await states[step.parent]
        execution = await runner.run(parent, step.code)
        before = step.result.snapshot
        if before is not None and not states[before].done():
            states[before].set_result(execution.snapshot)

    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(run(step))
