"""Solver: opens the parts, runs each search as a task of its own, and ends them all when the server stops.

Every failure of a search becomes that search's ending, so that no search can take another or the server with it. A
handler only watches: a search goes on until its end, or until nobody watches it any more.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic

from sandbox import SandboxError
from search import Event, NodeAdded, Parts, SearchResult, Strategy, listening, search
from server.answers.equality import EqualityUnavailable
from server.engines.errors import EngineError, RemoteMismatch, RemoteRefused
from server.http.schemas import CancelState, Models, SolveResponse
from server.observability.calls import measuring, tracing
from server.observability.metrics import CLIENT_LEFT, Metrics
from server.observability.tracing import is_recorded, span
from server.parts.metrics import PartsCollector
from server.parts.serving import OpenParts, Part, PartsUnavailable, ServingParts
from server.solving.admission import Admission, Limits
from server.solving.orders import Order
from server.solving.receipt import Waited, never_begun, response_for
from server.solving.records import recorded
from server.solving.refusals import FieldError, Kind, Refusal, invalid
from server.solving.running import RETRY_AFTER_S, Register, RunningSearch

logger = logging.getLogger(__name__)

LAST_BOUND_S = 10.0
"""For searches that were asked to end, and again for those that were cancelled: a hundred times what they need."""

READY = "ready"
STARTING = "starting"
DRAINING = "draining"

ENDPOINT = "/solve"


class Solver:
    """All searches of one server; `running()` spans its life."""

    def __init__(  # noqa: PLR0913  # what a server is put together from
        self,
        open_parts: OpenParts,
        *,
        limits: Limits,
        metrics: Metrics | None = None,
        record_folder: Path | None = None,
        on_ready: Callable[[], None] = lambda: None,
        on_failure: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = monotonic,
        last_bound_s: float = LAST_BOUND_S,
    ) -> None:
        """`on_failure` gets the reason why the parts could not be opened; the server is of no use then."""
        self._open_parts = open_parts
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._now = now
        self._record_folder = record_folder
        self._parts: ServingParts | None = None
        self._states: dict[Part, str] = dict.fromkeys(Part, STARTING)
        self._group: asyncio.TaskGroup | None = None
        self._admission = Admission(limits, now=now)
        self._register = Register()
        self._tasks: dict[asyncio.Task[None], RunningSearch] = {}
        self._last_bound_s = last_bound_s
        self._is_draining = False
        self._closing = asyncio.Event()
        self._may_close = asyncio.Event()
        """The parts: no search needs them any more."""
        self.metrics = metrics or Metrics()
        self.metrics.follow(running=lambda: self._admission.running, waiting=lambda: self._admission.waiting)
        self.metrics.read(
            PartsCollector(lambda: self._parts, lambda: {part: state == READY for part, state in self.states.items()})
        )

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
                await self._end_all()
                self._may_close.set()
                if self._parts is None:
                    keeper.cancel()

    @property
    def models(self) -> Models | None:
        """None until they are loaded."""
        return None if self._parts is None else self._parts.models

    @property
    def sandbox_level(self) -> str | None:
        """How well code steps are confined; None until the sandbox is open."""
        status = None if self._parts is None else self._parts.sandbox_status()
        return None if status is None else status.level

    @property
    def states(self) -> Mapping[Part, str]:
        """`ready`, `starting` or a fault, part by part."""
        return self._states if self._parts is None else {**self._states, **self._parts.faults()}

    @property
    def is_draining(self) -> bool:
        """Whether the server is about to stop and takes nothing new."""
        return self._is_draining

    @property
    def is_ready(self) -> bool:
        """Whether a search would be accepted, as far as the parts are concerned."""
        return self._parts is not None and not self._is_draining and not self._parts.faults()

    async def drain(self, seconds: float) -> None:
        """Refuse new searches and let those that run end by themselves; after `seconds` with their best answers."""
        self._is_draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for running in self._register:
            running.ask_to_end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._last_bound_s)

    def stop(self) -> None:
        """Refuse new searches and end those that run, each with its best answer so far."""
        self._is_draining = True
        self._closing.set()
        for running in self._register:
            running.ask_to_end()

    def start(self, order: Order, *, search_id: str, client: str = "") -> RunningSearch:
        """Begin a search, or queue it. Raises a `Refusal`."""
        try:
            return self._start(order, search_id=search_id, client=client)
        except Refusal as refusal:
            self.metrics.refused(refusal.kind.value.name, endpoint=ENDPOINT, strategy=order.config.strategy)
            raise

    def cancel(self, name: str, *, client: str | None = None) -> CancelState:
        """End the client's search of that id, or those that its request of that id began. Raises a `Refusal`.

        Request ids are chosen by clients and can be guessed: they count only where the client is known for sure. Else
        it is None, and whoever knows the search's own id may end it.
        """
        found = self._register.find(name, client=client)
        if found is None:
            detail = f"there is no search of yours, and was none lately, with the id {name[:128]!r}"
            if client is None:
                detail += "; it takes the search's own id, as event search_started and the response tell it"
            raise Refusal(Kind.NOT_FOUND, detail)
        for running in found:
            running.ask_to_end()
        return CancelState.STOPPING if found else CancelState.ENDED

    def _start(self, order: Order, *, search_id: str, client: str) -> RunningSearch:
        parts = self._working_parts()
        tokens = parts.prompt_tokens(order.problem)
        if tokens > parts.max_prompt_tokens:
            limit = parts.max_prompt_tokens
            detail = f"at most {limit} tokens allowed by the policy's context, got {tokens} tokens"
            raise invalid(FieldError(field="problem", detail=detail, limit=limit, value=tokens))
        assert self._group is not None
        ticket = self._admission.admit(client)
        running = RunningSearch(search_id, order, ticket, arrived_s=self._now())
        self._register.add(running)
        task = self._group.create_task(self._run(running, parts))
        self._tasks[task] = running

        def end(task: asyncio.Task[None]) -> None:
            del self._tasks[task]
            self._admission.give_back(ticket, is_typical=running.is_typical)
            self._register.remove(running)
            running.end()

        task.add_done_callback(end)
        return running

    def _working_parts(self) -> ServingParts:
        if self._is_draining:
            raise Refusal(Kind.STOPPING, "no new searches are taken", retry_after_s=RETRY_AFTER_S)
        if self._parts is None or not self.is_ready:
            lacking = ", ".join(f"{part}: {state}" for part, state in self.states.items() if state != READY)
            raise Refusal(Kind.NOT_READY, lacking, retry_after_s=RETRY_AFTER_S)
        return self._parts

    async def _run(self, running: RunningSearch, parts: ServingParts) -> None:
        """The outermost frame of a search."""
        strategy = running.order.config.strategy
        try:
            running.conclude(await self._solve(running, parts))
        except Refusal as refusal:
            self.metrics.refused(refusal.kind.value.name, endpoint=ENDPOINT, strategy=strategy)
            running.conclude(refusal)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            self._fail(running, error)  # a part that cancelled itself has failed like any other
        except Exception as error:  # noqa: BLE001  # whatever a part raises is told to those who wait, and logged
            self._fail(running, error)

    def _fail(self, running: RunningSearch, error: BaseException) -> None:
        """The ending of a search that a part has failed. What the part said may quote the problem: at debug only."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.warning("search %s failed: %s\n%s", running.id, type(error).__name__, where)
        logger.debug("search %s failed", running.id, exc_info=error)
        self.metrics.failed(endpoint=ENDPOINT, strategy=running.order.config.strategy, tokens=running.tokens)
        if _comes_back(error):
            detail = "a part of the server broke off the search; /readyz says whether it works again"
            running.conclude(Refusal(Kind.NOT_READY, detail, retry_after_s=RETRY_AFTER_S))
            return
        detail = "a part of the server failed during the search; the log says more under this request's id"
        running.conclude(Refusal(Kind.SEARCH_FAILED, detail))

    async def _solve(self, running: RunningSearch, parts: ServingParts) -> SolveResponse:
        order = running.order
        has_turn = await self._turn(running)
        queue_s = self._now() - running.arrived_s
        self.metrics.queue_wait.observe(queue_s)
        if not has_turn and self._is_draining:
            raise Refusal(
                Kind.STOPPING, "the server stops before this search had its turn", retry_after_s=RETRY_AFTER_S
            )
        result = await self._search(running, parts, queue_s=queue_s) if has_turn else never_begun(order.problem)
        waited = Waited(total_s=self._now() - running.arrived_s, queue_s=queue_s)
        respond = partial(
            response_for,
            result,
            search_id=running.id,
            order=order,
            models=parts.models,
            waited=waited,
            problem_tokens=parts.prompt_tokens(order.problem),
        )
        # A tree has thousands of nodes: others are served meanwhile.
        response = await asyncio.to_thread(respond) if order.returns_tree else respond()
        self._report(running, result, seconds=waited.total_s)
        return response

    async def _turn(self, running: RunningSearch) -> bool:
        """Whether the search may begin; else it was cancelled in the queue."""
        timeout_s = running.order.timeout_s
        try:
            with span("queue"):
                async with asyncio.timeout(timeout_s):
                    return await running.ticket.turn()
        except TimeoutError:
            detail = f"other searches took up the {timeout_s:g} s allowed to this one"
            raise Refusal(Kind.OVERLOADED, detail, retry_after_s=self._admission.retry_after_s) from None

    async def _search(self, running: RunningSearch, parts: ServingParts, *, queue_s: float) -> SearchResult:
        order = running.order
        is_greedy = order.config.strategy is Strategy.GREEDY
        draws = (0.0, 1.0) if is_greedy else (order.temperature, order.top_p)
        left_s = max(order.timeout_s - queue_s, 0.001)
        with span("search", {"rstar.strategy": order.config.strategy}) as searching:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(left_s):
                    runner = await stack.enter_async_context(parts.open_runner(order.seed))
                ours = Parts(policy=parts.policy(*draws), runner=runner, equality=parts.equality, scorer=parts.scorer)
                ours = listening(ours, measuring(self.metrics, now=self._now, on_tokens=running.count_tokens))
                ours = listening(ours, tracing) if is_recorded() else ours
                ours = stack.enter_context(recorded(ours, self._record_folder, search_id=running.id))
                result = await search(
                    order.problem,
                    parts=ours,
                    config=order.config,
                    budget=order.budget(seconds=left_s),
                    seed=order.seed,
                    now=self._now,
                    on_event=_Telling(running, self.metrics, self._now),
                    stop=running.stop,
                )
            searching.set_attributes(
                {"rstar.stop_reason": result.stop_reason, "rstar.trajectories": result.usage.trajectories}
            )
        return result

    def _report(self, running: RunningSearch, result: SearchResult, *, seconds: float) -> None:
        strategy = running.order.config.strategy
        self.metrics.ended(result, endpoint=ENDPOINT, strategy=strategy, seconds=seconds)
        if running.is_abandoned:
            self.metrics.wasted.labels(CLIENT_LEFT).inc(result.usage.policy_tokens)
        logger.info(
            "search %s: %s after %d trajectories and %.2f s",
            *(running.id, result.stop_reason, result.usage.trajectories, seconds),
        )

    async def _keep_parts(self) -> None:
        """Open the parts, hold them until the server stops, close them: all in one task."""
        try:
            async with self._open_parts(self._report_open) as parts:
                self._states = dict.fromkeys(Part, READY)
                self._parts = parts
                self._on_ready()
                await self._may_close.wait()
        except PartsUnavailable as error:
            self._on_failure(str(error))
        except Exception as error:
            if self._closing.is_set():
                logger.exception("a part of the server did not close in good order")
                return
            logger.exception("the server could not start")
            self._on_failure(f"{type(error).__name__}: {error}")
        finally:
            self._parts = None

    async def _end_all(self) -> None:
        """Searches that were asked to end do so at once; one whose part does not let go is cancelled in the end.

        One that outlives even that is given up: whoever waits for it is told, and the parts are closed under it.
        """
        for give_up in (asyncio.Task[None].cancel, self._give_up):
            if not self._tasks:
                return
            _, late = await asyncio.wait(self._tasks, timeout=self._last_bound_s)
            for task in late:
                give_up(task)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        running = self._tasks[task]
        logger.error("search %s does not end, although it was cancelled; its parts are closed under it", running.id)
        running.end()

    def _report_open(self, part: Part) -> None:
        self._states[part] = READY


def _comes_back(error: BaseException) -> bool:
    """Whether it is worth another try: engines, sandbox and checker are started again when they break."""
    if isinstance(error, RemoteRefused | RemoteMismatch):
        return False
    return isinstance(error, EngineError | SandboxError | EqualityUnavailable | TimeoutError)


class _Telling:
    """Passes the events of one search on, and counts them."""

    def __init__(self, running: RunningSearch, metrics: Metrics, now: Callable[[], float]) -> None:
        self._running = running
        self._metrics = metrics
        self._now = now
        self._has_begun = False
        self._has_candidate = False

    def __call__(self, event: Event) -> None:
        waited_s = self._now() - self._running.arrived_s
        if not self._has_begun:
            self._has_begun = True
            self._metrics.first_event.observe(waited_s)
        if not self._has_candidate and isinstance(event, NodeAdded):
            self._has_candidate = True
            self._metrics.first_candidate.observe(waited_s)
        self._metrics.event(event)
        self._running.tell(event)
