"""Progress: the events of one search on their way to one client. Bounded: a slow client costs events, never memory.

The search is never held up. When the buffer is full the oldest `NodeAdded` gives way, nodes being many and each of
little weight; failing one, the oldest event but `SearchStarted`, which names the search, and the last `AnswerChanged`,
which nothing repeats. The answer itself is not among the events and is never lost.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

from search import AnswerChanged, Event, NodeAdded, SearchStarted

CAPACITY = 256
"""A few expansions of the widest search; at some hundred bytes an event far less than one search's tree."""


class Progress:
    """A buffer with one reader; use within one event loop."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        assert capacity >= 2  # the two that are never dropped
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False
        self.dropped = 0
        """Events that the client will never see."""

    def put(self, event: Event) -> None:
        """Never waits."""
        self._events.append(event)
        if len(self._events) > self._capacity:
            self._drop_one()
        self._changed.set()

    def close(self) -> None:
        """No more events will come."""
        self._is_closed = True
        self._changed.set()

    async def next(self) -> Event | None:
        """The oldest event, once there is one; None after the last."""
        while not self._events and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft() if self._events else None

    def take_rest(self) -> list[Event]:
        """All that have come already, oldest first."""
        taken = list(self._events)
        self._events.clear()
        return taken

    def _drop_one(self) -> None:
        self.dropped += 1
        del self._events[next(self._by_weight())]

    def _by_weight(self) -> Iterator[int]:
        """Places of what may be dropped, that of least weight first."""
        yield from (place for place, event in enumerate(self._events) if isinstance(event, NodeAdded))
        answers = [place for place, event in enumerate(self._events) if isinstance(event, AnswerChanged)]
        kept = answers[-1:]
        yield from (
            place
            for place, event in enumerate(self._events)
            if place not in kept and not isinstance(event, SearchStarted)
        )
