"""Delays: wraps parts so that their calls take a while, and counts the calls in flight. For tests and simulations.

How long a call takes is the caller's to say: `pause` is awaited within each call, and gets the kind of part and the
size of the work, which is the length of the longest candidate for a policy, the number of paths for a scorer, else 1.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from search.outcomes import Verdict
from search.parts import Parts
from search.protocols import AnswerEquality, Candidate, CodeRunner, Execution, Path, Policy, Snapshot, StepScorer
from search.record import CallKind

Pause = Callable[[CallKind, int], Awaitable[None]]


def uneven_turns(rng: random.Random, *, most: int = 7) -> Pause:
    """Calls take different numbers of turns of the event loop: nothing waits, but everything comes in another order."""

    async def pause(kind: CallKind, size: int) -> None:
        for _ in range(rng.randint(0, most)):
            await asyncio.sleep(0)

    return pause


@dataclass(slots=True)
class CallCounts:
    """Calls of one kind."""

    begun: int = 0
    ended: int = 0
    """Those that raised or were cancelled included."""
    most: int = 0
    """In flight at once."""

    @property
    def in_flight(self) -> int:
        """Begun and not ended."""
        return self.begun - self.ended

    @contextmanager
    def one(self) -> Generator[None, None, None]:
        """Spans a call."""
        self.begun += 1
        self.most = max(self.most, self.in_flight)
        try:
            yield
        finally:
            self.ended += 1


@dataclass(frozen=True, slots=True)
class Delays:
    """Parts that pause, and their counts."""

    pause: Pause
    counts: dict[CallKind, CallCounts] = field(default_factory=lambda: {kind: CallCounts() for kind in CallKind})

    def wrap(self, parts: Parts) -> Parts:
        """The same parts, slower; a judge stays as it is."""
        return replace(
            parts,
            policy=_SlowPolicy(parts.policy, self),
            runner=_SlowRunner(parts.runner, self),
            equality=_SlowEquality(parts.equality, self),
            scorer=None if parts.scorer is None else _SlowScorer(parts.scorer, self),
        )

    @property
    def in_flight(self) -> int:
        """Calls of all kinds that have begun and not ended."""
        return sum(counts.in_flight for counts in self.counts.values())


@dataclass(frozen=True, slots=True)
class _SlowPolicy:
    policy: Policy
    delays: Delays

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        with self.delays.counts[CallKind.POLICY].one():
            candidates = await self.policy.propose(path, n, seed=seed)
            await self.delays.pause(CallKind.POLICY, max((len(c.token_ids) for c in candidates), default=0))
            return candidates


@dataclass(frozen=True, slots=True)
class _SlowRunner:
    runner: CodeRunner
    delays: Delays

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        with self.delays.counts[CallKind.RUNNER].one():
            await self.delays.pause(CallKind.RUNNER, 1)
            return await self.runner.run(parent, code)


@dataclass(frozen=True, slots=True)
class _SlowScorer:
    scorer: StepScorer
    delays: Delays

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        with self.delays.counts[CallKind.SCORER].one():
            await self.delays.pause(CallKind.SCORER, len(paths))
            return await self.scorer.score(paths)


@dataclass(frozen=True, slots=True)
class _SlowEquality:
    equality: AnswerEquality
    delays: Delays

    async def same(self, a: str, b: str) -> Verdict:
        with self.delays.counts[CallKind.EQUALITY].one():
            await self.delays.pause(CallKind.EQUALITY, 1)
            return await self.equality.same(a, b)
