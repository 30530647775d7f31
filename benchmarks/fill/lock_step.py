"""Lock-step: makes searches wait for each other, as the published code does. For comparison only."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from search import Candidate, Path, Policy


@dataclass(slots=True, eq=False)
class _Round:
    """The proposals of one round: they begin together and end together."""

    seats: set[int] = field(default_factory=set[int])
    under_way: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class LockStep:
    """A barrier: no policy call begins before every live search has made one; none returns before all are done."""

    def __init__(self) -> None:
        self._live: set[int] = set()
        self._next_seat = 0
        self._round = _Round()

    @contextmanager
    def seat(self, policy: Policy) -> Generator[Policy]:
        """The policy for one search. The search counts as live while the context is open."""
        seat = self._next_seat
        self._next_seat += 1
        self._live.add(seat)
        try:
            yield _Waiting(policy, self, seat)
        finally:
            self._live.discard(seat)
            self._open_if_all_asked()

    async def propose(self, policy: Policy, seat: int, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """Propose for the search of that seat."""
        joined = self._round
        joined.seats.add(seat)
        joined.under_way += 1
        self._open_if_all_asked()
        try:
            await joined.opened.wait()
            candidates = await policy.propose(path, n, seed=seed)
        finally:
            joined.under_way -= 1
            if joined.opened.is_set() and not joined.under_way:
                joined.finished.set()
        await joined.finished.wait()
        return candidates

    def _open_if_all_asked(self) -> None:
        if self._round.seats and self._live <= self._round.seats:
            self._round.opened.set()
            self._round = _Round()


@dataclass(frozen=True, slots=True)
class _Waiting:
    policy: Policy
    lock_step: LockStep
    seat: int

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        return await self.lock_step.propose(self.policy, self.seat, path, n, seed=seed)
