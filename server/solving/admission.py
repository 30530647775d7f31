"""Admission: who may search, and when. A fixed number of slots, a bounded queue, and turns that go round the clients.

A slot that falls free goes to the client that runs the fewest searches; among equals to the one served longest ago;
its own searches come in the order of their arrival. When the queue is full, the newest search of the client that has
most of it gives way to a client that has less. So a client with a thousand problems delays one with a single problem
by about one search, not by a thousand, and cannot shut it out.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server.settings.settings import Settings
from server.solving.refusals import Kind, Refusal

FIRST_GUESS_S = 5.0
"""Length of a search before any was seen."""
SMOOTHING = 0.2
"""Weight of the newest search in the mean that says when to come back."""
LONGEST_RETRY_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is admitted."""

    slots: int
    """Searches that run at once."""
    queued: int
    """Searches that wait; 0 refuses whatever cannot start at once."""
    per_client: int | None = None
    """Searches of one client, running and waiting; None: no limit."""


def limits_from(settings: Settings) -> Limits:
    """As the operator set them."""
    return Limits(
        slots=settings.concurrent_searches, queued=settings.queued_searches, per_client=settings.max_searches_per_key
    )


class Admission:
    """The slots of one server; use within one event loop."""

    def __init__(self, limits: Limits, *, now: Callable[[], float]) -> None:
        self.limits = limits
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
        turns = (self.waiting + 1) / self.limits.slots
        return min(LONGEST_RETRY_S, max(1, round(turns * self._mean_s)))

    def admit(self, client_name: str) -> "Ticket":
        """A place in the queue, to be given back in the end. Raises a `Refusal` where there is none."""
        client = self._clients.setdefault(client_name, _Client(served=self._served))
        try:
            self._check_quota(client)
            if self.waiting >= self.limits.queued and self.running >= self.limits.slots:
                self._make_room(client)
        except Refusal:
            self._forget(client_name)
            raise
        ticket = Ticket(client_name)
        client.waiting.append(ticket)
        self._give_turns()
        return ticket

    def _make_room(self, client: "_Client") -> None:
        """Displace somebody who waits, or refuse."""
        detail = f"{self.running} searches are running and {self.waiting} waiting, which is as many as may"
        refusal = Refusal(Kind.OVERLOADED, detail, retry_after_s=self.retry_after_s)
        greediest = max(self._clients.values(), key=lambda one: len(one.waiting))
        if len(greediest.waiting) <= len(client.waiting) + 1:
            raise refusal
        greediest.waiting.pop().displace(refusal)

    def _check_quota(self, client: "_Client") -> None:
        limit = self.limits.per_client
        if limit is not None and client.running + len(client.waiting) >= limit:
            detail = f"at most {limit} searches at a time, running and waiting, are allowed to one client"
            retry_after_s = min(LONGEST_RETRY_S, max(1, round(self._mean_s)))
            raise Refusal(Kind.QUOTA_EXCEEDED, detail, retry_after_s=retry_after_s)

    def _give_turns(self) -> None:
        while self.running < self.limits.slots and (clients := [c for c in self._clients.values() if c.waiting]):
            client = min(clients, key=lambda waiting: (waiting.running, waiting.served))
            self._served += 1
            client.served = self._served
            client.running += 1
            client.waiting.popleft().call(now_s=self._now())

    def give_back(self, ticket: "Ticket", *, is_typical: bool = True) -> None:
        """The ticket's search is over, or will not begin; whether its length says something about the next one's."""
        client = self._clients.setdefault(ticket.client, _Client(served=self._served))
        if ticket.called_s is not None:
            client.running -= 1
            if is_typical:
                self._mean_s += SMOOTHING * (self._now() - ticket.called_s - self._mean_s)
        elif ticket in client.waiting:
            client.waiting.remove(ticket)
        self._forget(ticket.client)
        self._give_turns()

    def _forget(self, client_name: str) -> None:
        """Clients without searches are not kept, so that names cost no memory."""
        client = self._clients[client_name]
        if not client.running and not client.waiting:
            del self._clients[client_name]


class Ticket:
    """A search's place."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.called_s: float | None = None
        """When its turn came."""
        self._refusal: Refusal | None = None
        self._decided = asyncio.Event()

    def call(self, *, now_s: float) -> None:
        """Its turn has come."""
        self.called_s = now_s
        self._decided.set()

    def leave(self) -> None:
        """Waits no more; does nothing once its turn has come."""
        self._decided.set()

    def displace(self, refusal: Refusal) -> None:
        """Its place is another's."""
        self._refusal = refusal
        self._decided.set()

    async def turn(self) -> bool:
        """Waits until its turn comes, or it leaves: False. Raises the `Refusal` with which it was displaced."""
        await self._decided.wait()
        if self._refusal is not None:
            raise self._refusal
        return self.called_s is not None


@dataclass(slots=True)
class _Client:
    served: int
    """Number of the last turn given to it; for a new client of the last one given to anybody."""
    running: int = 0
    waiting: deque[Ticket] = field(default_factory=deque[Ticket])
