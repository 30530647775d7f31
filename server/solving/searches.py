"""Searches: the request, watchers and result of one search, and all searches of one server.

A search ends by itself, or because it is asked to: by a cancel request, when its last watcher leaves, or when the
server stops. In every case it ends with its best answer so far.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from search import (
    AnswerChanged,
    Budget,
    Event,
    NodeAdded,
    PhaseSeconds,
    SearchConfig,
    SearchResult,
    SearchStarted,
    Stop,
    StopReason,
    Tree,
    Usage,
)
from server.engines.protocols import Sampling
from server.parts.serving import ModelIds
from server.solving.admission import Ticket
from server.solving.refusals import Refusal, RefusalKind
from server.trees.entries import Fingerprint

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""About the time that loading small models, or restarting an engine or the server, takes."""
REMEMBERED = 4096
"""Ended searches whose ids are still known, so that cancelling one of them is no error: some hundred kilobytes."""
CAPACITY = 256
"""A few expansions of the widest search; at some hundred bytes an event far less than one search's tree."""


class CacheUse(StrEnum):
    """What a request does with the tree of an earlier search of the same problem."""

    USE = "use"
    """Answer from it, or go on from it. The tree is stored again."""
    REFRESH = "refresh"
    """Search from the start, and store the new tree in its place."""
    BYPASS = "bypass"
    """Search from the start, and store nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A valid request: every default is filled in, and every number is within the operator's limits."""

    problem: str
    config: SearchConfig
    budget: Budget
    """Trajectories and tokens; the time follows from `timeout_s` when the search begins."""
    timeout_s: float
    """Seconds from the request's arrival to its result, the queue included."""
    sampling: Sampling
    seed: int
    endpoint: str
    """Where the request came in, as metrics name it."""
    cache: CacheUse = CacheUse.USE
    returns_tree: bool = False
    """Whether the client wants the whole tree."""

    @property
    def has_fitted_confidence(self) -> bool:
        """Whether the confidence of its answers is fitted to the models. Known once the search is admitted."""
        return self.config.calibration is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSearch:
    """A search that came to a result, if only to the best one so far."""

    search_id: str
    request: SearchRequest
    fingerprint: Fingerprint
    """The key of its tree."""
    result: SearchResult
    models: ModelIds
    problem_tokens: int
    """Length of the problem as the policy reads it."""
    queue_s: float
    """Seconds in the queue."""
    total_s: float
    """Seconds from the request's arrival to the result."""


SearchEnding = FinishedSearch | Refusal
"""What everyone who waits for a search gets in the end."""


def nothing_found(problem: str, reason: StopReason) -> SearchResult:
    """The result of a search that ended before it began."""
    nothing = Usage(
        trajectories=0, cached_trajectories=0, policy_tokens=0, ppm_calls=0, ppm_step_tokens=0, code_steps=0
    )
    return SearchResult(
        tree=Tree(problem),
        answers=(),
        answer=None,
        confidence=0.0,
        best_path=(),
        trajectories_to_answer=None,
        stop_reason=reason,
        usage=nothing,
        phase_seconds=PhaseSeconds(policy=0.0, sandbox=0.0, ppm=0.0),
    )


class Watcher:
    """One client's view of a search: its events, if it wants them, and how it ends.

    Events wait in a bounded buffer and never hold up the search: a slow watcher misses some. The oldest `NodeAdded` is
    dropped first. Without one the oldest event is dropped, except `SearchStarted`, which names the search, and the last
    `AnswerChanged`, which no later event repeats. The result is not among the events and is never lost.
    """

    def __init__(self, search: "RunningSearch", *, wants_events: bool, capacity: int = CAPACITY) -> None:
        assert capacity >= 2  # the two that are never dropped
        self.search = search
        self.dropped = 0
        """Events that the client will never see."""
        self._wants_events = wants_events
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Add an event, and drop one if the buffer is full. Never waits."""
        if self._wants_events:
            self._events.append(event)
            if len(self._events) > self._capacity:
                self.dropped += 1
                del self._events[next(self._droppable())]
            self._changed.set()

    def close(self) -> None:
        """No more events will come."""
        self._is_closed = True
        self._changed.set()

    async def events(self) -> list[Event]:
        """Wait for events and take all that there are, oldest first; an empty list after the last."""
        while not self._events and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        taken = list(self._events)
        self._events.clear()
        return taken

    def leave(self) -> None:
        """Stop watching. Has no effect the second time."""
        self.search.remove(self)

    def _droppable(self) -> Iterator[int]:
        """Indexes of the events that may be dropped, the least important first."""
        yield from (index for index, event in enumerate(self._events) if isinstance(event, NodeAdded))
        answers = [index for index, event in enumerate(self._events) if isinstance(event, AnswerChanged)]
        for index, event in enumerate(self._events):
            if index not in answers[-1:] and not isinstance(event, SearchStarted):
                yield index


class RunningSearch:
    """A request for a search: before its turn, in the queue, or at work."""

    def __init__(self, search_id: str, request: SearchRequest, client: str, *, arrived_s: float) -> None:
        self.id = search_id
        self.request = request
        self.client = client
        self.ticket: Ticket | None = None
        """Its place in the queue, or its slot."""
        self.queue_s: float | None = None
        """Seconds in the queue; None before its turn."""
        self.arrived_s = arrived_s
        self.stop = Stop()
        self.is_abandoned = False
        """Whether its last watcher left before its end."""
        self.is_typical = False
        """Whether it had a slot and searched to its own end."""
        self.tokens = 0
        """Tokens of the candidates that it has received so far."""
        self._watchers: list[Watcher] = []
        self._has_started = False
        self._is_accepted = asyncio.Event()
        self._is_asked_to_end = asyncio.Event()
        self._ending: asyncio.Future[SearchEnding] = asyncio.get_running_loop().create_future()

    @property
    def left_s(self) -> float:
        """Seconds left to it, above 0."""
        return max(self.request.timeout_s - (monotonic() - self.arrived_s), 0.001)

    @property
    def is_over(self) -> bool:
        """Whether it was asked to end, or has used up its time."""
        return self.stop.is_asked or monotonic() - self.arrived_s >= self.request.timeout_s

    def watch(self, *, events: bool = False) -> Watcher:
        """A new watcher, which gets the events from now on if it wants them. It has to leave in the end."""
        watcher = Watcher(self, wants_events=events)
        self._watchers.append(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """The watcher leaves. The search ends after the last one has left."""
        if watcher not in self._watchers:
            return
        self._watchers.remove(watcher)
        if not self._watchers and not self._ending.done():
            self.is_abandoned = True
            self.ask_to_end()

    def ask_to_end(self) -> None:
        """End with the best answer so far; in the queue, without any. Has no effect after the end."""
        self.stop.ask()
        self._is_asked_to_end.set()
        if self.ticket is not None:
            self.ticket.stop_waiting()

    async def asked_to_end(self) -> None:
        """Wait until it is asked to end."""
        await self._is_asked_to_end.wait()

    def accept(self) -> None:
        """It has a place in the queue, or waits for another search to answer it too."""
        self._is_accepted.set()

    async def accepted(self) -> None:
        """Wait until it is accepted or has ended. Raises the `Refusal` if it was refused."""
        await self._is_accepted.wait()
        if self._ending.done() and isinstance(ending := self._ending.result(), Refusal):
            raise ending

    def count_tokens(self, tokens: int) -> None:
        """Count the tokens of candidates that it has received."""
        self.tokens += tokens

    def publish(self, event: Event) -> None:
        """Pass an event on to the watchers, of `SearchStarted` only the first. Never waits."""
        if isinstance(event, SearchStarted):
            if self._has_started:
                return
            self._has_started = True
        for watcher in self._watchers:
            watcher.put(event)

    async def ending(self) -> SearchEnding:
        """The result, once there is one, or why there is none."""
        return await asyncio.shield(self._ending)

    def finish(self, ending: SearchEnding) -> None:
        """Give the ending to everyone who waits for it. Has no effect the second time."""
        if not self._ending.done():
            self._ending.set_result(ending)
        self._is_accepted.set()
        for watcher in self._watchers:
            watcher.close()


class CancelState(StrEnum):
    """The state of a search that is cancelled."""

    STOPPING = "stopping"
    """It ends now, with its best answer so far."""
    ENDED = "ended"
    """It had ended already."""


class Searches:
    """The tasks of all searches of one server. Clients find their searches by id."""

    def __init__(self, *, bound_s: float) -> None:
        """`bound_s` is the time in which a search ends that was asked to, or was cancelled."""
        self._bound_s = bound_s
        self._tasks: dict[asyncio.Task[SearchEnding], RunningSearch] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    def add(self, task: asyncio.Task[SearchEnding], running: RunningSearch) -> None:
        """A search begins."""
        self._tasks[task] = running

    def finish(self, task: asyncio.Task[SearchEnding]) -> RunningSearch:
        """Nothing of the search runs any more. Its id stays known for some time."""
        running = self._tasks.pop(task)
        running.finish(_cut_off() if task.cancelled() or task.exception() else task.result())
        self._ended[running.id] = running.client
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        return running

    def cancel(self, name: str, *, client: str | None) -> CancelState | None:
        """End the client's search of that id, or those that its request of that id began; None if there never were any.

        Clients choose their request ids, so others can guess them. A request id counts only if the client is known for
        certain. Otherwise `client` is None, and anyone who knows the search's own id may end it.
        """

        def is_meant(search_id: str, owner: str) -> bool:
            if client is None:
                return name == search_id
            request_id = search_id.rpartition("-")[0]  # see new_search_id
            return owner == client and name in {search_id, request_id}

        found = [running for running in self._tasks.values() if is_meant(running.id, running.client)]
        for running in found:
            running.ask_to_end()
        if found:
            return CancelState.STOPPING
        return CancelState.ENDED if any(is_meant(*ended) for ended in self._ended.items()) else None

    def ask_all_to_end(self) -> None:
        """End every search with its best answer so far."""
        for running in self._tasks.values():
            running.ask_to_end()

    async def drain(self, seconds: float) -> None:
        """Let the searches end by themselves, and ask those to end that take longer."""
        await self._still_running(seconds)
        self.ask_all_to_end()
        await self._still_running(self._bound_s)

    async def end_all(self) -> None:
        """Ask all searches to end, and cancel those that do not, because a part holds them up.

        A search that outlives even that is given up: its watchers get a refusal.
        """
        self.ask_all_to_end()
        for task in await self._still_running(self._bound_s):
            task.cancel()
        for task in await self._still_running(self._bound_s):
            running = self._tasks[task]
            logger.error("search %s does not end, although it was cancelled; its parts are closed under it", running.id)
            running.finish(_cut_off())

    async def _still_running(self, seconds: float) -> list[asyncio.Task[SearchEnding]]:
        """The searches that have not ended after so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return list(self._tasks)


def _cut_off() -> Refusal:
    detail = "the server stopped before the search could end"
    return Refusal(RefusalKind.STOPPING, detail, retry_after_s=RETRY_AFTER_S)


def new_search_id(request_id: str) -> str:
    """The request's id, for readers of logs, and a random part: anyone who knows the whole may cancel the search."""
    return f"{request_id}-{secrets.token_hex(16)}"
