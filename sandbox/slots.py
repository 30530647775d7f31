"""Slots: lets a bounded number of steps run at once; the others wait in the order of arrival."""

import asyncio
from collections import deque


class Slots:
    """Belongs to one event loop."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.idle = count
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self._count - self.idle

    @property
    def queue_depth(self) -> int:
        """Places that wait for a slot."""
        return sum(not place.done() for place in self._waiting)

    def queue(self) -> asyncio.Future[bool]:
        """A place in the queue: True when the slot is there. Setting it to False gives the place up."""
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._serve()
        return place

    def leave(self, place: asyncio.Future[bool]) -> None:
        """Give back the slot, or the place in the queue. Call it once for each place, however the wait ended."""
        if place.done() and not place.cancelled() and place.result():
            self.idle += 1
        else:
            place.cancel()
        self._serve()

    def _serve(self) -> None:
        while self._waiting and (self.idle or self._waiting[0].done()):
            place = self._waiting.popleft()
            if not place.done():
                self.idle -= 1
                place.set_result(True)
