"""Running searches: each with the watchers it goes on for, and found again by its id.

A search ends by itself, or because somebody asks it to: by a cancel request, because its last watcher left, or because
the server stops. Its answer so far is kept in every case; after the last watcher has left there is nobody to get it.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from search import Event, Stop
from server.http.schemas import SolveResponse
from server.solving.admission import Ticket
from server.solving.orders import Order
from server.solving.progress import Progress
from server.solving.refusals import Kind, Refusal

RETRY_AFTER_S = 5
"""About as long as loading small models, or starting an engine or the server again, takes."""

REMEMBERED = 4096
"""Ended searches whose ids are still known, so that cancelling one of them is no error: some hundred kilobytes."""


class Watch:
    """One client's view of a search: its events, and its end."""

    def __init__(self, running: "RunningSearch", *, events: bool) -> None:
        self.search = running
        self.progress = Progress() if events else None
        self._has_left = False

    async def ending(self) -> SolveResponse | Refusal:
        """The response, once there is one, or why there is none."""
        return await self.search.ending()

    def leave(self) -> None:
        """Watch no more. Does nothing the second time."""
        if not self._has_left:
            self._has_left = True
            self.search.lose(self)


class RunningSearch:
    """A search on its way."""

    def __init__(self, search_id: str, order: Order, ticket: Ticket, *, arrived_s: float) -> None:
        self.id = search_id
        self.order = order
        self.ticket = ticket
        self.arrived_s = arrived_s
        self.stop = Stop()
        self.is_abandoned = False
        """Whether its last watcher left before its end."""
        self.tokens = 0
        """Of the candidates that it has received so far."""
        self._watches: list[Watch] = []
        self._ending: SolveResponse | Refusal | None = None
        self._ended = asyncio.Event()

    @property
    def client(self) -> str:
        """Whose search it is."""
        return self.ticket.client

    @property
    def is_typical(self) -> bool:
        """Whether it came to its result by itself."""
        return isinstance(self._ending, SolveResponse) and not self.stop.is_asked

    def watch(self, *, events: bool = False) -> Watch:
        """A new watcher, to be told of events from now on; it has to leave in the end."""
        watch = Watch(self, events=events)
        self._watches.append(watch)
        return watch

    def lose(self, watch: Watch) -> None:
        """A watcher leaves; without the last one nobody needs the search any more."""
        self._watches.remove(watch)
        if not self._watches and not self._ended.is_set():
            self.is_abandoned = True
            self.ask_to_end()

    def ask_to_end(self) -> None:
        """End with the best answer so far; in the queue, without any. After the end it does nothing."""
        self.stop.ask()
        self.ticket.leave()

    def count_tokens(self, tokens: int) -> None:
        """It has received candidates of so many tokens."""
        self.tokens += tokens

    def tell(self, event: Event) -> None:
        """Pass an event on to the watchers. Never waits."""
        for watch in self._watches:
            if watch.progress is not None:
                watch.progress.put(event)

    async def ending(self) -> SolveResponse | Refusal:
        """The response, once there is one, or why there is none."""
        await self._ended.wait()
        if self._ending is None:
            detail = "the server stopped before the search could end"
            return Refusal(Kind.STOPPING, detail, retry_after_s=RETRY_AFTER_S)
        return self._ending

    def conclude(self, ending: SolveResponse | Refusal) -> None:
        """Said by the search itself as its last word."""
        self._ending = ending

    def end(self) -> None:
        """Nothing of it runs any more."""
        self._ended.set()
        for watch in self._watches:
            if watch.progress is not None:
                watch.progress.close()


class Register:
    """The searches of one server by their ids, each client seeing its own."""

    def __init__(self) -> None:
        self._running: dict[str, RunningSearch] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    def __iter__(self) -> Iterator[RunningSearch]:
        return iter(tuple(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def add(self, running: RunningSearch) -> None:
        """A search begins."""
        self._running[running.id] = running

    def remove(self, running: RunningSearch) -> None:
        """It has ended; its id is known for some time still."""
        self._running.pop(running.id, None)
        self._ended[running.id] = running.client
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def find(self, name: str, *, client: str | None) -> Sequence[RunningSearch] | None:
        """The client's running searches of that id, or of the request with that id; None where it never had one.

        Where nobody knows for sure who a client is, it is None: then only the search's own id will do, from anywhere.
        """

        def is_meant(search_id: str, owner: str) -> bool:
            if client is None:
                return name == search_id
            return owner == client and name in {search_id, request_id_within(search_id)}

        found = [one for one in self._running.values() if is_meant(one.id, one.client)]
        is_known = bool(found) or any(is_meant(*ended) for ended in self._ended.items())
        return found if is_known else None


def new_search_id(request_id: str) -> str:
    """Begins with the request's id, for readers of logs, and ends in what nobody guesses: who knows it may cancel."""
    return f"{request_id}-{secrets.token_hex(16)}"


def request_id_within(search_id: str) -> str:
    """The id of the request that began the search."""
    return search_id.rpartition("-")[0]
