"""Admission: which search may run, and when. A fixed number of slots, a bounded queue, and turns that go round clients.

A request enters, and may then queue for a slot. One that is answered without a search needs no slot, but it counts
towards the number of requests that its client may have at a time.

A free slot goes to the client that runs the fewest searches; among equals to the one that was served longest ago; the
searches of one client run in the order of their arrival. When the queue is full, the newest search of the client with
the longest part of it is displaced by a search of a client with fewer. So a client with a thousand problems delays one
with a single problem by about one search, not by a thousand, and cannot shut it out.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from server.solving.refusals import Refusal, RefusalKind

FIRST_GUESS_S = 5.0
"""The assumed length of a search before any has ended."""
SMOOTHING = 0.2
"""Weight of the newest search in the mean length, which decides after how long to retry."""
LONGEST_RETRY_S = 120


class Ticket:
    """A search's place in the queue, later its slot."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.called_s: float | None = None
        """When its turn came."""
        self.refusal: Refusal | None = None
        """Why it lost its place to another search."""
        self._is_decided = asyncio.Event()

    def stop_waiting(self) -> None:
        """Its turn has come, or it leaves the queue without one."""
        self._is_decided.set()

    async def turn(self) -> bool:
        """Wait for its turn; False if it leaves before. Raises the `Refusal` if it loses its place."""
        await self._is_decided.wait()
        if self.refusal is not None:
            raise self.refusal
        return self.called_s is not None


@dataclass(slots=True)
class _Client:
    served: int
    """Number of its last turn; for a new client, the number of the last turn of any client."""
    entered: int = 0
    """Its requests that have not left."""
    running: int = 0
    waiting: deque[Ticket] = field(default_factory=deque[Ticket])


class Admission:
    """The slots and the queue of one server. Use it within one event loop."""

    def __init__(
        self, *, slots: int, queued: int, per_client: int | None = None, now: Callable[[], float] = monotonic
    ) -> None:
        """`slots` searches run at once and `queued` wait. A client has at most `per_client` requests, if given."""
        self._slots = slots
        self._queued = queued
        self._per_client = per_client
        self._now = now
        self._clients: dict[str, _Client] = {}
        self._served = 0
        self._mean_s = FIRST_GUESS_S

    @property
    def running(self) -> int:
        """Searches that hold a slot."""
        return sum(client.running for client in self._clients.values())

    @property
    def waiting(self) -> int:
        """Searches in the queue."""
        return sum(len(client.waiting) for client in self._clients.values())

    @property
    def retry_after_s(self) -> int:
        """When a search that is refused now would find a place: the queue's length in searches of the usual length."""
        return self._retry_after_s((self.waiting + 1) / self._slots)

    def enter(self, client_name: str) -> None:
        """A request of the client begins. It has to `leave` in the end. Raises a `Refusal` above the client's quota."""
        client = self._client(client_name)
        limit = self._per_client
        if limit is not None and client.entered >= limit:
            detail = f"at most {limit} searches at a time, running and waiting, are allowed to one client"
            raise Refusal(RefusalKind.QUOTA_EXCEEDED, detail, retry_after_s=self._retry_after_s(1))
        client.entered += 1
        self._clients[client_name] = client

    def leave(self, client_name: str) -> None:
        """The request is over."""
        self._client(client_name).entered -= 1
        self._drop_idle()

    def queue(self, client_name: str) -> Ticket:
        """A place in the queue, or a slot. `release` it in the end. Raises a `Refusal` where there is none."""
        client = self._client(client_name)
        if self.waiting >= self._queued and self.running >= self._slots:
            self._make_room(client)
        ticket = Ticket(client_name)
        client.waiting.append(ticket)
        self._clients[client_name] = client
        self._fill_slots()
        return ticket

    def release(self, ticket: Ticket, *, is_typical: bool = True) -> None:
        """The ticket's search is over, or will not begin. The mean length counts typical searches only."""
        client = self._client(ticket.client)
        if ticket.called_s is not None:
            client.running -= 1
            if is_typical:
                self._mean_s += SMOOTHING * (self._now() - ticket.called_s - self._mean_s)
        elif ticket in client.waiting:
            client.waiting.remove(ticket)
        self._fill_slots()

    def _client(self, name: str) -> _Client:
        return self._clients.get(name) or _Client(served=self._served)

    def _make_room(self, client: _Client) -> None:
        """Displace a waiting search of another client, or refuse."""
        detail = f"{self.running} searches are running and {self.waiting} waiting, which is as many as may"
        refusal = Refusal(RefusalKind.OVERLOADED, detail, retry_after_s=self.retry_after_s)
        greediest = max(self._clients.values(), key=lambda one: len(one.waiting))
        if len(greediest.waiting) <= len(client.waiting) + 1:
            raise refusal
        displaced = greediest.waiting.pop()
        displaced.refusal = refusal
        displaced.stop_waiting()

    def _fill_slots(self) -> None:
        """Give free slots to those whose turn it is."""
        while self.running < self._slots and (clients := [c for c in self._clients.values() if c.waiting]):
            client = min(clients, key=lambda waiting: (waiting.running, waiting.served))
            self._served += 1
            client.served = self._served
            client.running += 1
            ticket = client.waiting.popleft()
            ticket.called_s = self._now()
            ticket.stop_waiting()
        self._drop_idle()

    def _drop_idle(self) -> None:
        """Clients without requests cost no memory."""
        self._clients = {
            name: client for name, client in self._clients.items() if client.entered or client.running or client.waiting
        }

    def _retry_after_s(self, searches: float) -> int:
        """The time that so many searches of the usual length take, one after the other."""
        return min(LONGEST_RETRY_S, max(1, round(searches * self._mean_s)))
