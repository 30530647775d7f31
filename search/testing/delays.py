"""Delays: a listener that makes calls slow, and counts the calls in flight. For tests and simulations.

The caller's `pause` decides how long a call takes. It is awaited within each call, and gets the kind of part and the
size of the work: the length of the longest candidate for a policy, the number of paths for a scorer, else 1.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from search.calls import Call, CallKind, PolicyCall, ScorerCall, listening
from search.protocols import Parts

Pause = Callable[[CallKind, int], Awaitable[None]]


def uneven_turns(rng: random.Random, *, most: int = 7) -> Pause:
    """Calls take random numbers of turns of the event loop, so that results come in another order without real time."""

    async def pause(kind: CallKind, size: int) -> None:
        for _ in range(rng.randint(0, most)):
            await asyncio.sleep(0)

    return pause


@dataclass(slots=True)
class CallCounts:
    """Calls of one kind."""

    begun: int = 0
    ended: int = 0
    """Includes calls that raised or were cancelled."""
    most: int = 0
    """Most calls in flight at once."""

    @property
    def in_flight(self) -> int:
        """Begun and not ended."""
        return self.begun - self.ended


@dataclass(frozen=True, slots=True)
class Delays:
    """A listener that pauses in each call, with the counts of the calls."""

    pause: Pause
    counts: dict[CallKind, CallCounts] = field(default_factory=lambda: {kind: CallCounts() for kind in CallKind})

    def wrap(self, parts: Parts) -> Parts:
        """The same parts, slower."""
        return listening(parts, self.listen)

    @asynccontextmanager
    async def listen(self, call: Call) -> AsyncGenerator[None]:
        """A listener that pauses once the call has its result."""
        counts = self.counts[call.kind]
        counts.begun += 1
        counts.most = max(counts.most, counts.in_flight)
        try:
            yield
            await self.pause(call.kind, _size(call))
        finally:
            counts.ended += 1

    @property
    def in_flight(self) -> int:
        """Calls of all kinds that have begun and not ended."""
        return sum(counts.in_flight for counts in self.counts.values())


def _size(call: Call) -> int:
    if isinstance(call, PolicyCall):
        return max((len(candidate.token_ids) for candidate in call.result), default=0)
    return len(call.paths) if isinstance(call, ScorerCall) else 1
