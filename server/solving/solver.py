"""Solver: opens the parts, runs each search as a task of its own, and ends them all when the server stops.

Every failure of a search becomes that search's ending, so that no search can take another or the server with it.
Handlers of requests only watch: a search goes on until its end, or until its last watcher leaves.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from time import monotonic

from sandbox import SandboxError
from search import (
    Event,
    NodeAdded,
    OnEvent,
    Parts,
    SearchResult,
    SearchStarted,
    StopReason,
    Strategy,
    Tree,
    listening,
    search,
)
from server.answers.equality import EqualityUnavailable
from server.engines.errors import EngineError, RemoteMismatch, RemoteRefused
from server.observability.metrics import CLIENT_LEFT, Metrics, measuring_calls
from server.observability.tracing import is_recorded, span, tracing_calls
from server.parts.metrics import PartsCollector
from server.parts.serving import OpenParts, Part, PartsUnavailable, ServingParts
from server.settings.settings import Settings
from server.solving.admission import Admission, Ticket
from server.solving.cache import TreeCache
from server.solving.records import recording
from server.solving.refusals import FieldError, Refusal, RefusalKind, invalid
from server.solving.searches import (
    RETRY_AFTER_S,
    CancelState,
    FinishedSearch,
    RunningSearch,
    SearchEnding,
    Searches,
    SearchRequest,
    nothing_found,
)
from server.trees.entries import Fingerprint, TreeShape, environment
from server.trees.memory import MemoryTreeStore
from server.trees.store import TreeStore

logger = logging.getLogger(__name__)

LAST_BOUND_S = 10.0
"""For searches that were asked to end, and again for those that were cancelled. They need a hundredth of it."""

READY = "ready"
STARTING = "starting"
DRAINING = "draining"


class Solver:
    """All searches of one server; `running()` spans its life."""

    def __init__(
        self,
        open_parts: OpenParts,
        settings: Settings,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_failure: Callable[[str], None] = lambda _: None,
        last_bound_s: float = LAST_BOUND_S,
    ) -> None:
        """`on_failure` gets the reason if the parts cannot be opened. The server is of no use then."""
        self._open_parts = open_parts
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._record_folder = settings.record_folder
        self.parts: ServingParts | None = None
        """None until they are open."""
        self._states: dict[Part, str] = dict.fromkeys(Part, STARTING)
        self._group: asyncio.TaskGroup | None = None
        self._admission = Admission(
            slots=settings.concurrent_searches,
            queued=settings.queued_searches,
            per_client=settings.max_searches_per_key,
        )
        self._searches = Searches(bound_s=last_bound_s)
        self.is_draining = False
        """Whether the server is about to stop and takes no new searches. A signal handler may set it."""
        self._may_close_parts = asyncio.Event()
        self.metrics = Metrics()
        self.metrics.follow(running=lambda: self._admission.running, waiting=lambda: self._admission.waiting)
        self._environment = environment()
        self.tree_store = _tree_store(settings)
        """None where no trees are kept."""
        self._cache = TreeCache(self.tree_store, self.metrics)
        self.metrics.read(
            PartsCollector(lambda: self.parts, lambda: {part: state == READY for part, state in self.states.items()})
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the parts in the background; at the end stop every search, then close the parts."""
        store = nullcontext() if self.tree_store is None else self.tree_store.running()
        async with store, asyncio.TaskGroup() as group:
            self._group = group
            holding = group.create_task(self._hold_parts())
            try:
                yield
            finally:
                self.stop()
                await self._searches.end_all()
                self._may_close_parts.set()
                if self.parts is None:
                    holding.cancel()

    @property
    def states(self) -> Mapping[Part, str]:
        """`ready`, `starting` or a fault, part by part."""
        return self._states if self.parts is None else {**self._states, **self.parts.faults()}

    @property
    def is_ready(self) -> bool:
        """Whether a search would be accepted, as far as the parts are concerned."""
        return self.parts is not None and not self.is_draining and not self.parts.faults()

    async def drain(self, seconds: float) -> None:
        """Refuse new searches and let those that run end by themselves; after `seconds` with their best answers."""
        self.is_draining = True
        await self._searches.drain(seconds)

    def stop(self) -> None:
        """Refuse new searches and end those that run, each with its best answer so far."""
        self.is_draining = True
        self._searches.ask_all_to_end()

    def start(self, request: SearchRequest, *, search_id: str, client: str = "") -> RunningSearch:
        """Begin a search, or queue it. Raises a `Refusal`."""
        try:
            return self._start(request, search_id=search_id, client=client)
        except Refusal as refusal:
            self._count_refusal(refusal, request)
            raise

    def cancel(self, name: str, *, client: str | None = None) -> CancelState:
        """End one search, or all that a request began: see `Searches.cancel`. Raises a `Refusal` for unknown ids."""
        state = self._searches.cancel(name, client=client)
        if state is None:
            detail = f"there is no search of yours, and was none lately, with the id {name[:128]!r}"
            if client is None:
                detail += "; it takes the search's own id, as event search_started and the response tell it"
            raise Refusal(RefusalKind.NOT_FOUND, detail)
        return state

    def _start(self, request: SearchRequest, *, search_id: str, client: str) -> RunningSearch:
        parts = self._working_parts()
        tokens, limit = parts.prompt_tokens(request.problem), parts.max_prompt_tokens
        if tokens > limit:
            detail = f"at most {limit} tokens allowed by the policy's context, got {tokens} tokens"
            raise invalid(FieldError(field="problem", detail=detail, limit=limit, value=tokens))
        assert self._group is not None
        request = replace(request, config=request.config.calibrated(parts.calibration))
        self._admission.enter(client)
        running = RunningSearch(search_id, request, client, arrived_s=monotonic())
        task = self._group.create_task(self._run(running, parts))
        self._searches.add(task, running)
        task.add_done_callback(self._finish)
        return running

    def _working_parts(self) -> ServingParts:
        if self.is_draining:
            raise Refusal(RefusalKind.STOPPING, "no new searches are taken", retry_after_s=RETRY_AFTER_S)
        if self.parts is None or not self.is_ready:
            lacking = ", ".join(f"{part}: {state}" for part, state in self.states.items() if state != READY)
            raise Refusal(RefusalKind.NOT_READY, lacking, retry_after_s=RETRY_AFTER_S)
        return self.parts

    async def _run(self, running: RunningSearch, parts: ServingParts) -> SearchEnding:
        """The outermost frame of a search: any exception of a part is logged and becomes the ending."""
        try:
            return await self._solve(running, parts)
        except Refusal as refusal:
            self._count_refusal(refusal, running.request)
            return refusal
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            return self._failure(running, error)  # a part that cancels itself has failed like any other
        except Exception as error:  # noqa: BLE001  # see the docstring
            return self._failure(running, error)

    async def _solve(self, running: RunningSearch, parts: ServingParts) -> FinishedSearch:
        request = running.request
        key = self._fingerprint(request, parts)
        grow = partial(self._search_in_turn, running, parts)
        result = await self._cache.solve(running, key, equality=parts.equality, grow=grow)
        if self.is_draining and running.queue_s is None and not result.usage.trajectories:
            detail = "the server stops before this search had its turn"
            raise Refusal(RefusalKind.STOPPING, detail, retry_after_s=RETRY_AFTER_S)
        finished = FinishedSearch(
            search_id=running.id,
            request=request,
            fingerprint=key,
            result=result,
            models=parts.models,
            problem_tokens=parts.prompt_tokens(request.problem),
            queue_s=running.queue_s or 0.0,
            total_s=monotonic() - running.arrived_s,
        )
        self._report(running, finished)
        return finished

    def _fingerprint(self, request: SearchRequest, parts: ServingParts) -> Fingerprint:
        shape = TreeShape(
            problem=request.problem,
            config=request.config,
            sampling=request.sampling,
            seed=request.seed,
            policy=parts.models.policy,
            ppm=parts.models.ppm,
            environment={**self._environment, **parts.environment},
        )
        return shape.fingerprint

    async def _search_in_turn(
        self, running: RunningSearch, parts: ServingParts, tree: Tree, on_event: OnEvent
    ) -> SearchResult:
        """Search on in the tree, with a slot. Raises a `Refusal` where there is none in time."""
        running.ticket = ticket = self._admission.queue(running.client)
        running.accept()
        if running.stop.is_asked:
            ticket.stop_waiting()
        try:
            if not await self._turn(running, ticket):
                return nothing_found(running.request.problem, StopReason.CANCELLED)
            result = await self._search(running, parts, tree, on_event)
            running.is_typical = not running.stop.is_asked
            return result
        finally:
            self._admission.release(ticket, is_typical=running.is_typical)

    async def _search(self, running: RunningSearch, parts: ServingParts, tree: Tree, on_event: OnEvent) -> SearchResult:
        """Search on the server's parts, with listeners to their calls and, with a folder, a record.

        It ends when the request's time is over, or when it is asked to, with the best answer so far.
        """
        seconds = running.left_s
        request = running.request
        sampling = request.sampling
        if request.config.strategy is Strategy.GREEDY:
            sampling = replace(sampling, temperature=0.0, top_p=1.0)
        with span("search", {"rstar.strategy": request.config.strategy}) as searching:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(seconds):
                    runner = await stack.enter_async_context(parts.open_runner(request.seed))
                ours = Parts(policy=parts.policy(sampling), runner=runner, equality=parts.equality, scorer=parts.scorer)
                ours = listening(ours, measuring_calls(self.metrics, now=monotonic, on_tokens=running.count_tokens))
                ours = listening(ours, tracing_calls) if is_recorded() else ours
                record = None
                if self._record_folder is not None:
                    record = stack.enter_context(recording(self._record_folder, search_id=running.id))
                result = await search(
                    tree.problem,
                    parts=ours,
                    config=request.config,
                    budget=replace(request.budget, seconds=seconds),
                    seed=request.seed,
                    now=monotonic,
                    on_event=_publisher(running, self.metrics, on_event),
                    tree=tree,
                    stop=running.stop,
                    record=record,
                )
            searching.set_attributes(
                {"rstar.stop_reason": result.stop_reason, "rstar.trajectories": result.usage.trajectories}
            )
        return result

    async def _turn(self, running: RunningSearch, ticket: Ticket) -> bool:
        """Whether the search may begin; else it was cancelled in the queue."""
        began_s = monotonic()
        try:
            with span("queue"):
                async with asyncio.timeout(running.left_s):
                    has_turn = await ticket.turn()
        except TimeoutError:
            detail = f"other searches took up the {running.request.timeout_s:g} s allowed to this one"
            retry_after_s = self._admission.retry_after_s
            raise Refusal(RefusalKind.OVERLOADED, detail, retry_after_s=retry_after_s) from None
        queue_s = monotonic() - began_s
        self.metrics.queue_wait.observe(queue_s)
        if has_turn:
            running.queue_s = queue_s
        return has_turn

    def _report(self, running: RunningSearch, finished: FinishedSearch) -> None:
        result, request = finished.result, finished.request
        strategy = request.config.strategy
        self.metrics.ended(result, endpoint=request.endpoint, strategy=strategy, seconds=finished.total_s)
        if running.is_abandoned:
            self.metrics.wasted.labels(CLIENT_LEFT).inc(result.usage.policy_tokens)
        logger.info(
            "search %s: %s after %d trajectories, %d of them from the cache, and %.2f s",
            *(running.id, result.stop_reason, result.usage.trajectories, result.usage.cached_trajectories),
            finished.total_s,
        )

    def _count_refusal(self, refusal: Refusal, request: SearchRequest) -> None:
        self.metrics.refused(refusal.kind, endpoint=request.endpoint, strategy=request.config.strategy)

    def _failure(self, running: RunningSearch, error: BaseException) -> Refusal:
        """The ending of a search that a part has failed. The error may quote the problem: it is logged at debug."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.warning("search %s failed: %s\n%s", running.id, type(error).__name__, where)
        logger.debug("search %s failed", running.id, exc_info=error)
        request = running.request
        self.metrics.failed(endpoint=request.endpoint, strategy=request.config.strategy, tokens=running.tokens)
        if _may_recover(error):
            detail = "a part of the server broke off the search; /readyz says whether it works again"
            return Refusal(RefusalKind.NOT_READY, detail, retry_after_s=RETRY_AFTER_S)
        detail = "a part of the server failed during the search; the log says more under this request's id"
        return Refusal(RefusalKind.SEARCH_FAILED, detail)

    def _finish(self, task: asyncio.Task[SearchEnding]) -> None:
        """Nothing of the search runs any more. Its watchers get the ending."""
        running = self._searches.finish(task)
        self._admission.leave(running.client)

    async def _hold_parts(self) -> None:
        """Open the parts, hold them until the server stops, close them: all in one task."""
        try:
            async with self._open_parts(lambda part: self._states.update({part: READY})) as parts:
                self._states = dict.fromkeys(Part, READY)
                self.parts = parts
                self._on_ready()
                await self._may_close_parts.wait()
        except PartsUnavailable as error:
            self._on_failure(str(error))
        except Exception as error:
            if self._may_close_parts.is_set():
                logger.exception("a part of the server did not close cleanly")
                return
            logger.exception("the server could not start")
            self._on_failure(f"{type(error).__name__}: {error}")
        finally:
            self.parts = None


def _tree_store(settings: Settings) -> TreeStore | None:
    if settings.redis_url is not None:
        from server.trees.redis import RedisTreeStore  # noqa: PLC0415  # redis is imported only where it is used

        url = settings.redis_url.get_secret_value()
        return RedisTreeStore(url, ttl_s=settings.tree_ttl_s, timeout_s=settings.redis_timeout_s)
    if settings.tree_cache_mb == 0:
        return None
    return MemoryTreeStore(max_bytes=int(settings.tree_cache_mb * 1e6), ttl_s=settings.tree_ttl_s)


def _may_recover(error: BaseException) -> bool:
    """Whether another try may succeed: engines, sandbox and answer checker are restarted when they break."""
    if isinstance(error, RemoteRefused | RemoteMismatch):
        return False
    return isinstance(error, EngineError | SandboxError | EqualityUnavailable | TimeoutError)


def _publisher(running: RunningSearch, metrics: Metrics, on_event: OnEvent) -> OnEvent:
    """Counts the events of the search and passes them on, to its watchers too."""
    has_candidate = False

    def publish(event: Event) -> None:
        nonlocal has_candidate
        waited_s = monotonic() - running.arrived_s
        if isinstance(event, SearchStarted):
            metrics.first_event.observe(waited_s)
        elif isinstance(event, NodeAdded) and not has_candidate:
            has_candidate = True
            metrics.first_candidate.observe(waited_s)
        metrics.event(event)
        running.publish(event)
        on_event(event)

    return publish
