"""Recording: the calls that searches made, to be made again without the searches, each kind alone and all at once."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from search import Candidate, CodeRunner, Execution, Parts, Path, Policy, Snapshot, StepScorer

OpenRunner = Callable[[int], AbstractAsyncContextManager[CodeRunner]]


@dataclass(frozen=True, slots=True)
class _Proposal:
    path: Path
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Step:
    parent: Snapshot | None
    code: str
    snapshot: Snapshot | None
    """The state after it."""


@dataclass(slots=True)
class Recording:
    """Calls that were answered before it was closed."""

    proposals: list[_Proposal] = field(default_factory=list[_Proposal])
    scorings: list[Sequence[Path]] = field(default_factory=list[Sequence[Path]])
    steps: dict[int, list[_Step]] = field(default_factory=lambda: defaultdict[int, list[_Step]](list))
    """By search."""
    tokens: int = 0
    is_closed: bool = False

    def close(self) -> None:
        """What is answered later is not part of it."""
        self.is_closed = True

    def wrap(self, parts: Parts, search: int) -> Parts:
        """Parts for the search of that number."""
        assert parts.scorer is not None
        return replace(
            parts,
            policy=_RecordedPolicy(parts.policy, self),
            scorer=_RecordedScorer(parts.scorer, self),
            runner=_RecordedRunner(parts.runner, self, search),
        )

    async def propose_again(self, policy: Policy) -> int:
        """All proposals at once; the tokens generated."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(policy.propose(asked.path, asked.n, seed=asked.seed)) for asked in self.proposals
            ]
        return sum(len(candidate.token_ids) for task in tasks for candidate in task.result())

    async def score_again(self, scorer: StepScorer) -> None:
        """All scorings at once."""
        async with asyncio.TaskGroup() as group:
            for paths in self.scorings:
                group.create_task(scorer.score(paths))

    async def run_again(self, open_runner: OpenRunner, *, trees: int) -> None:
        """All code steps, each as soon as its parent is there, of as many trees at once as were live."""
        places = asyncio.Semaphore(trees)

        async def run_tree(search: int, steps: Sequence[_Step]) -> None:
            async with places, open_runner(search) as runner:
                await _run_tree(runner, steps)

        async with asyncio.TaskGroup() as group:
            for search, steps in self.steps.items():
                group.create_task(run_tree(search, steps))


async def _run_tree(runner: CodeRunner, steps: Sequence[_Step]) -> None:
    states: dict[Snapshot, asyncio.Future[Snapshot | None]] = {}
    for step in steps:
        if step.snapshot is not None:
            states[step.snapshot] = asyncio.get_running_loop().create_future()

    async def run(step: _Step) -> None:
        parent = None if step.parent is None else await states[step.parent]
        execution = await runner.run(parent, step.code)
        if step.snapshot is not None and not states[step.snapshot].done():
            states[step.snapshot].set_result(execution.snapshot)

    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(run(step))


@dataclass(frozen=True, slots=True)
class _RecordedPolicy:
    policy: Policy
    recording: Recording

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        candidates = await self.policy.propose(path, n, seed=seed)
        if not self.recording.is_closed:
            self.recording.proposals.append(_Proposal(path, n, seed))
            self.recording.tokens += sum(len(candidate.token_ids) for candidate in candidates)
        return candidates


@dataclass(frozen=True, slots=True)
class _RecordedScorer:
    scorer: StepScorer
    recording: Recording

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        scores = await self.scorer.score(paths)
        if not self.recording.is_closed:
            self.recording.scorings.append(paths)
        return scores


@dataclass(frozen=True, slots=True)
class _RecordedRunner:
    runner: CodeRunner
    recording: Recording
    search: int

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        execution = await self.runner.run(parent, code)
        if not self.recording.is_closed:
            self.recording.steps[self.search].append(_Step(parent, code, execution.snapshot))
        return execution
