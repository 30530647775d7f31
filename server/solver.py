"""Solver: opens the parts, runs each search as a task of its own, and ends them all when the server stops.

Every failure of a search becomes that search's ending, so that no search can take another or the server with it. A
handler only watches: a search goes on until its end or until whoever watches gives it up.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic

from search import OnEvent, Parts, SearchResult, Strategy, search
from server.engines.errors import EngineError
from server.orders import Order
from server.parts import OpenParts, Part, PartsUnavailable, ServingParts
from server.progress import Progress
from server.receipt import Waited, response_for
from server.refusals import FieldError, Kind, Refusal, invalid
from server.schemas import Models, SolveResponse

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""About as long as loading small models, or a search on them, takes."""

READY = "ready"
STARTING = "starting"


class RunningSearch:
    """A search on its way, for the one who watches it."""

    def __init__(self, search_id: str, order: Order, *, arrived_s: float) -> None:
        self.id = search_id
        self.order = order
        self.arrived_s = arrived_s
        self.progress = Progress()
        self._ending: SolveResponse | Refusal | None = None
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def run_as(self, task: asyncio.Task[None]) -> None:
        """Ends when the task does, however that comes about."""
        self._task = task
        task.add_done_callback(lambda _: self._end())

    async def ending(self) -> SolveResponse | Refusal:
        """The response, once there is one, or why there is none."""
        await self._ended.wait()
        return self._ending or Refusal(Kind.STOPPING, "the search was cancelled", retry_after_s=RETRY_AFTER_S)

    def conclude(self, ending: SolveResponse | Refusal) -> None:
        """Said by the search itself as its last word."""
        self._ending = ending

    def give_up(self) -> None:
        """Nobody watches any more: stop model and sandbox. After the end it does nothing."""
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        self.progress.close()
        self._ended.set()


class Solver:
    """All searches of one server; `running()` spans its life."""

    def __init__(
        self,
        open_parts: OpenParts,
        *,
        concurrent_searches: int,
        on_ready: Callable[[], None] = lambda: None,
        on_failure: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`on_failure` gets the reason why the parts could not be opened; the server is of no use then."""
        self._open_parts = open_parts
        self._slots = asyncio.Semaphore(concurrent_searches)
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._now = now
        self._parts: ServingParts | None = None
        self._states: dict[Part, str] = dict.fromkeys(Part, STARTING)
        self._group: asyncio.TaskGroup | None = None
        self._searches: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the parts in the background; at the end stop every search, then close the parts."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            keeper = group.create_task(self._keep_parts())
            try:
                yield
            finally:
                self.stop()
                if self._searches:
                    await asyncio.wait(self._searches)
                if self._parts is None:
                    keeper.cancel()

    @property
    def models(self) -> Models | None:
        """None until they are loaded."""
        return None if self._parts is None else self._parts.models

    @property
    def states(self) -> Mapping[Part, str]:
        """`ready`, `starting` or a fault, part by part."""
        return self._states if self._parts is None else {**self._states, **self._parts.faults()}

    @property
    def is_ready(self) -> bool:
        """Whether a search would be accepted."""
        return self._parts is not None and not self._closing.is_set() and not self._parts.faults()

    def stop(self) -> None:
        """Refuse new searches and cancel those that run."""
        self._closing.set()
        for task in self._searches:
            task.cancel()

    def start(self, order: Order, *, search_id: str) -> RunningSearch:
        """Begin a search, or queue it. Raises a `Refusal`."""
        parts = self._working_parts()
        tokens = parts.prompt_tokens(order.problem)
        if tokens > parts.max_prompt_tokens:
            limit = parts.max_prompt_tokens
            detail = f"at most {limit} tokens allowed by the policy's context, got {tokens} tokens"
            raise invalid(FieldError(field="problem", detail=detail, limit=limit, value=tokens))
        assert self._group is not None
        running = RunningSearch(search_id, order, arrived_s=self._now())
        task = self._group.create_task(self._run(running, parts))
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)
        running.run_as(task)
        return running

    def _working_parts(self) -> ServingParts:
        if self._closing.is_set():
            raise Refusal(Kind.STOPPING, "no new searches are taken", retry_after_s=RETRY_AFTER_S)
        if self._parts is None or not self.is_ready:
            lacking = ", ".join(f"{part}: {state}" for part, state in self.states.items() if state != READY)
            raise Refusal(Kind.NOT_READY, lacking, retry_after_s=RETRY_AFTER_S)
        return self._parts

    async def _run(self, running: RunningSearch, parts: ServingParts) -> None:
        """The outermost frame of a search."""
        try:
            running.conclude(await self._solve(running, parts))
        except Refusal as refusal:
            running.conclude(refusal)
        except EngineError as error:
            # An engine that broke is started again or comes back, if it can: worth another try.
            logger.warning("search %s: %s", running.id, error)
            detail = "an engine broke off the search; /readyz says whether it works again"
            running.conclude(Refusal(Kind.NOT_READY, detail, retry_after_s=RETRY_AFTER_S))
        except Exception:
            logger.exception("search %s failed", running.id)
            detail = "a part of the server failed during the search; the log says more under this request's id"
            running.conclude(Refusal(Kind.SEARCH_FAILED, detail))

    async def _solve(self, running: RunningSearch, parts: ServingParts) -> SolveResponse:
        order = running.order
        try:
            async with asyncio.timeout(order.timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            detail = f"other searches took up the {order.timeout_s:g} s allowed to this one"
            raise Refusal(Kind.OVERLOADED, detail, retry_after_s=RETRY_AFTER_S) from None
        try:
            queue_s = self._now() - running.arrived_s
            left_s = max(order.timeout_s - queue_s, 0.001)
            result = await _search(order, parts, seconds=left_s, now=self._now, on_event=running.progress.put)
        finally:
            self._slots.release()
        waited = Waited(total_s=self._now() - running.arrived_s, queue_s=queue_s)
        logger.info(
            "search %s: %s after %d trajectories and %.2f s",
            *(running.id, result.stop_reason, result.usage.trajectories, waited.total_s),
        )
        return response_for(result, search_id=running.id, order=order, models=parts.models, waited=waited)

    async def _keep_parts(self) -> None:
        """Open the parts, hold them until the server stops, close them: all in one task."""
        try:
            async with self._open_parts(self._report) as parts:
                self._states = dict.fromkeys(Part, READY)
                self._parts = parts
                self._on_ready()
                await self._closing.wait()
                if self._searches:
                    await asyncio.wait(self._searches)
        except PartsUnavailable as error:
            self._on_failure(str(error))
        except Exception as error:
            logger.exception("the server could not start")
            self._on_failure(f"{type(error).__name__}: {error}")
        finally:
            self._parts = None

    def _report(self, part: Part) -> None:
        self._states[part] = READY


async def _search(
    order: Order, parts: ServingParts, *, seconds: float, now: Callable[[], float], on_event: OnEvent
) -> SearchResult:
    is_greedy = order.config.strategy is Strategy.GREEDY
    async with parts.open_runner(order.seed) as runner:
        return await search(
            order.problem,
            parts=Parts(
                policy=parts.greedy_policy if is_greedy else parts.sampling_policy,
                runner=runner,
                equality=parts.equality,
                scorer=parts.scorer,
            ),
            config=order.config,
            budget=order.budget(seconds=seconds),
            seed=order.seed,
            now=now,
            on_event=on_event,
        )
