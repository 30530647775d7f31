"""Cache: answers a request from the tree of an earlier search, or lets one search at a time grow that tree.

    load the tree: does it answer the request?  ->  answer, without a slot
    does another request search it already?     ->  follow: pass its events on, and begin again when it has ended
    does another replica?                       ->  wait until it has stored more, and begin again
    else                                        ->  lead: search from where the tree ends, and store it

A request that leaves, or whose time is over, ends its own wait only. The search that it leads goes on for those who
follow it, as long as its time lasts; then one of them goes on from the stored tree. While a tree grows it is stored
every now and then, so that little is lost with the process.

This module alone decides what a failure of the store means: a search without it, and a count in the metrics.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, NoReturn

from search import (
    AnswerEquality,
    Budget,
    Event,
    OnEvent,
    Parts,
    Path,
    SearchResult,
    SearchStarted,
    Snapshot,
    StopReason,
    TrajectoryFinished,
    Tree,
    load,
    save,
    search,
)
from search.calls import task_group
from server.observability.metrics import READ, WRITTEN, CacheError, CacheOutcome, Metrics
from server.solving.refusals import Refusal
from server.solving.searches import CacheUse, RunningSearch, Watcher, nothing_found
from server.trees.entries import BadValue, Fingerprint, NotStorable, decode, encode, normalised
from server.trees.store import Lease, LeaseLost, StoreUnavailable, TreeStore

logger = logging.getLogger(__name__)

CHECKPOINT_TRAJECTORIES = 8
CHECKPOINT_S = 2.0
"""A growing tree is stored after so many new trajectories, or so many seconds with at least one, whichever is first."""

Grow = Callable[[Tree, OnEvent], Coroutine[Any, Any, SearchResult]]
"""Searches on, in the tree given, with a slot. Calls back at each event."""


class _Found(NamedTuple):
    """A tree to begin with."""

    tree: Tree | None
    """To be tried first; that may change it. None where there is no tree that can be read."""
    read: Callable[[], Tree]
    """Makes the tree anew."""
    version: int
    """In the store, also of a value that cannot be read; 0 where there is none."""


class TreeCache:
    """The trees of one server. Use it within one event loop."""

    def __init__(self, store: TreeStore | None, metrics: Metrics) -> None:
        """Without a store every request is a search of its own."""
        self._store = store
        self._metrics = metrics
        self._leaders: dict[Fingerprint, RunningSearch] = {}

    async def solve(
        self, running: RunningSearch, key: Fingerprint, *, equality: AnswerEquality, grow: Grow
    ) -> SearchResult:
        """The result for the request. Raises what `grow` raises."""
        use = running.request.cache
        if use is CacheUse.BYPASS or self._store is None:
            self._metrics.cache_requests.labels(CacheOutcome.BYPASSED).inc()
            return await grow(Tree(running.request.problem), lambda _: None)
        found = _Found(None, lambda: Tree(running.request.problem), 0)
        while not running.is_over:
            if use is CacheUse.USE:
                found = await self._load(self._store, running, key, found)
                if (result := await _answer(running, found.tree, equality)) is not None:
                    self._metrics.cache_requests.labels(CacheOutcome.HIT).inc()
                    return result
            leader = self._leaders.get(key)
            if leader is not None:
                found = await self._follow(running, leader, found)
            elif (result := await self._lead(self._store, running, key, found, grow)) is not None:
                return result
        return await self._best_so_far(self._store, running, key, found, equality)

    async def _follow(self, running: RunningSearch, leader: RunningSearch, found: _Found) -> _Found:
        """Wait until the leader has ended. Its tree, which a store may lack; else what was found before.

        While somebody follows the leader, its search goes on without its client.
        """
        watcher = leader.watch(events=True)
        try:
            if not await self._wait(running, _pass_on(watcher, running)):
                return found
        finally:
            watcher.leave()
        ending = await leader.ending()
        if isinstance(ending, Refusal) or not ending.result.tree.trajectories:
            return found
        saved = await asyncio.to_thread(save, ending.result.tree)
        return _Found(load(saved), partial(load, saved), found.version)

    async def _lead(
        self, store: TreeStore, running: RunningSearch, key: Fingerprint, found: _Found, grow: Grow
    ) -> SearchResult | None:
        """Search on from the tree that was found. None where another search has changed it: look at it again."""
        self._leaders[key] = running
        try:
            async with AsyncExitStack() as stack:
                try:
                    lease = await stack.enter_async_context(store.lease(key))
                except StoreUnavailable:
                    self._metrics.cache_errors.labels(CacheError.UNAVAILABLE).inc()
                    return await grow(await self._begin(running, found), lambda _: None)
                if lease is None:
                    await self._wait(running, store.changed(key, since=found.version))
                    return None
                if lease.version != found.version and running.request.cache is CacheUse.USE:
                    return None
                if lease.is_takeover:
                    self._metrics.cache_takeovers.inc()
                return await self._grow_and_keep(store, lease, await self._begin(running, found), grow)
        except LeaseLost:
            self._metrics.cache_errors.labels(CacheError.LEASE_LOST).inc()
            return None
        except StoreUnavailable:
            self._metrics.cache_errors.labels(CacheError.UNAVAILABLE).inc()
            return None
        finally:
            del self._leaders[key]

    async def _begin(self, running: RunningSearch, found: _Found) -> Tree:
        """The tree to search on in."""
        if running.request.cache is CacheUse.REFRESH:
            outcome = CacheOutcome.REFRESHED
        else:
            outcome = CacheOutcome.MISS if found.tree is None else CacheOutcome.RESUMED
        self._metrics.cache_requests.labels(outcome).inc()
        if outcome is CacheOutcome.RESUMED:
            return await asyncio.to_thread(found.read)
        return Tree(running.request.problem)

    async def _grow_and_keep(self, store: TreeStore, lease: Lease, tree: Tree, grow: Grow) -> SearchResult:
        checkpoints = _Checkpoints(tree, lambda: self._commit(store, lease, tree))
        async with task_group() as group:
            group.create_task(checkpoints.keep())
            result = await grow(tree, checkpoints.observe)
            checkpoints.finish()
        return result

    async def _wait(self, running: RunningSearch, event: Coroutine[Any, Any, None]) -> bool:
        """Wait for it; False where the request's own end comes first. Raises what the waiting raises."""
        self._metrics.cache_waits.inc()
        request = running.request
        started = SearchStarted(problem=request.problem, strategy=request.config.strategy, cached_trajectories=0)
        running.publish(started)
        running.accept()
        try:
            async with asyncio.timeout(running.left_s), task_group() as group:
                waiting = group.create_task(event)
                asked = group.create_task(running.asked_to_end())
                await asyncio.wait({waiting, asked}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                asked.cancel()
        except TimeoutError:
            return False
        return not running.stop.is_asked

    async def _best_so_far(
        self, store: TreeStore, running: RunningSearch, key: Fingerprint, found: _Found, equality: AnswerEquality
    ) -> SearchResult:
        """What the tree says that was stored last, for a request that waited until its own end."""
        reason = StopReason.CANCELLED if running.stop.is_asked else StopReason.DEADLINE
        found = await self._load(store, running, key, found)
        result = await _answer(running, found.tree, equality, budget=Budget(trajectories=1))
        if result is None:
            return nothing_found(running.request.problem, reason)
        return replace(result, stop_reason=reason)

    async def _load(self, store: TreeStore, running: RunningSearch, key: Fingerprint, found: _Found) -> _Found:
        """The stored tree; where there is none, the one that was found before."""
        try:
            stored = await store.load(key)
        except StoreUnavailable:
            self._metrics.cache_errors.labels(CacheError.UNAVAILABLE).inc()
            return found
        if stored is None:
            return found._replace(version=0)
        self._metrics.cache_bytes.labels(READ).inc(len(stored.value))
        read = partial(decode, stored.value)
        try:
            tree = await asyncio.to_thread(read)
            if normalised(tree.problem) != normalised(running.request.problem):
                raise BadValue("it is the tree of another problem")
        except BadValue as error:
            logger.warning("the stored tree %.12s cannot be read: %s", key, error)
            self._metrics.cache_errors.labels(CacheError.BAD_VALUE).inc()
            return found._replace(version=stored.version)
        return _Found(tree, read, stored.version)

    async def _commit(self, store: TreeStore, lease: Lease, tree: Tree) -> None:
        saved = save(tree)  # on the event loop, where the tree does not grow meanwhile
        try:
            value = await asyncio.to_thread(encode, saved)
            await store.commit(lease, value)
        except NotStorable as error:
            logger.warning("the tree %.12s is not stored: %s", lease.key, error)
            self._metrics.cache_errors.labels(CacheError.NOT_STORABLE).inc()
        except StoreUnavailable:
            self._metrics.cache_errors.labels(CacheError.UNAVAILABLE).inc()
        else:
            self._metrics.cache_bytes.labels(WRITTEN).inc(len(value))


class _Checkpoints:
    """Stores a tree while it grows, and at its end."""

    def __init__(self, tree: Tree, commit: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tree = tree
        self._commit = commit
        self._kept = tree.trajectories
        self._is_finished = False
        self._is_due = asyncio.Event()

    def observe(self, event: Event) -> None:
        """To be called at each event of the search."""
        if isinstance(event, TrajectoryFinished) and self._tree.trajectories >= self._kept + CHECKPOINT_TRAJECTORIES:
            self._is_due.set()

    def finish(self) -> None:
        """The tree grows no more: store it once more if it has grown."""
        self._is_finished = True
        self._is_due.set()

    async def keep(self) -> None:
        """Store the tree whenever it is due, until it was stored for the last time."""
        while True:
            is_last, trajectories = self._is_finished, self._tree.trajectories
            if trajectories > self._kept:
                await self._commit()
                self._kept = trajectories
            if is_last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECKPOINT_S):
                    await self._is_due.wait()
            self._is_due.clear()


class _ModelNeeded(Exception):
    """The tree does not answer the request: a model would have to be asked."""


class _NoModel:
    """Policy, PPM and sandbox of a search that may ask none of them."""

    async def propose(self, path: Path, n: int, *, seed: int) -> NoReturn:
        raise _ModelNeeded

    async def score(self, paths: Sequence[Path]) -> NoReturn:
        raise _ModelNeeded

    async def run(self, parent: Snapshot | None, code: str) -> NoReturn:
        raise _ModelNeeded


async def _answer(
    running: RunningSearch, tree: Tree | None, equality: AnswerEquality, *, budget: Budget | None = None
) -> SearchResult | None:
    """The result that a search with this tree comes to before it asks a model; None where it would ask one.

    So the rules of the search itself, and no second copy of them, say whether a tree is large enough. May change it.
    """
    if tree is None:
        return None
    request = running.request
    events: list[Event] = []
    nobody = _NoModel()
    try:
        result = await search(
            tree.problem,
            parts=Parts(policy=nobody, scorer=nobody, runner=nobody, equality=equality),
            config=request.config,
            budget=replace(budget or request.budget, seconds=running.left_s),
            seed=request.seed,
            now=monotonic,
            on_event=events.append,
            tree=tree,
        )
    except _ModelNeeded:
        return None
    for event in events:
        running.publish(event)
    return result


async def _pass_on(watcher: Watcher, running: RunningSearch) -> None:
    """Pass on what the watcher sees, until its search has ended."""
    while events := await watcher.events():
        for event in events:
            running.publish(event)
