"""Progress: the events of one search on their way to one client. Bounded: a slow client costs events, never memory.

The search is never held up. When the buffer is full the oldest `NodeAdded` gives way, nodes being many and each of
little weight; failing one, the oldest event. The answer is not among the events and is never lost.
"""

import asyncio
from collections import deque

from search import Event, NodeAdded

CAPACITY = 256
"""A few expansions of the widest search; at some hundred bytes an event far less than one search's tree."""


class Progress:
    """A buffer with one reader; use within one event loop."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False
        self.dropped = 0
        """Events that the client will never see."""

    def put(self, event: Event) -> None:
        """Never waits."""
        if len(self._events) >= self._capacity:
            self._drop_one()
        self._events.append(event)
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
        for index, event in enumerate(self._events):
            if isinstance(event, NodeAdded):
                del self._events[index]
                return
        self._events.popleft()
