"""Cache: values that cannot be read, checkpoints, and leases that are lost; with a search of the test's own."""

import asyncio
from dataclasses import replace
from time import monotonic

import pytest

from search import Budget, OnEvent, SearchResult, Tree, save, search
from search.testing.fakes import ArithmeticPolicy, StringEquality, arithmetic_parts
from server.observability.metrics import Metrics
from server.solving.cache import CHECKPOINT_TRAJECTORIES, TreeCache
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import RunningSearch, SearchRequest
from server.trees.entries import Fingerprint, decode, encode
from server.trees.memory import MemoryTreeStore
from server.trees.store import Lease, LeaseLost
from tests.server.serving import a_request
from tests.server.trees.grown import grown_tree

PROBLEM = "3+4+5+6+7+8"
KEY = Fingerprint("1" * 64)


def using(trajectories: int = 4) -> SearchRequest:
    options = {"parallel_rollouts": 1, "stop_when_decided": False, "candidates": 6}
    return a_request(PROBLEM, trajectories=trajectories, search=options, cache="use")


class Growing:
    """The search of a request: on fakes, without slots."""

    def __init__(self, trajectories: int = 4) -> None:
        self.runs = 0
        self.trajectories = trajectories
        self.pause_at: int | None = None
        self.paused, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, tree: Tree, on_event: OnEvent) -> SearchResult:
        self.runs += 1
        if self.pause_at is not None:
            await self._search(tree, on_event, self.pause_at)
            self.paused.set()
            await self.go_on.wait()
        return await self._search(tree, on_event, self.trajectories)

    async def _search(self, tree: Tree, on_event: OnEvent, trajectories: int) -> SearchResult:
        parts = replace(arithmetic_parts(0.3), policy=ArithmeticPolicy(error_rate=0.5))
        budget = Budget(trajectories=trajectories)
        return await search(
            *(tree.problem,),
            parts=parts,
            config=using().config,
            budget=budget,
            seed=0,
            now=monotonic,
            on_event=on_event,
            tree=tree,
        )


def running(trajectories: int = 4) -> RunningSearch:
    return RunningSearch("s1", using(trajectories), "ann", arrived_s=monotonic())


async def run(cache: TreeCache, grow: Growing, trajectories: int = 4) -> SearchResult:
    return await cache.solve(running(trajectories), KEY, equality=StringEquality(), grow=grow)


async def put(store: MemoryTreeStore, value: bytes) -> None:
    async with store.lease(KEY) as lease:
        assert lease is not None
        await store.commit(lease, value)


@pytest.mark.parametrize("value", [b"", b"garbage", encode(save(grown_tree(4)))[:-1], encode(save(grown_tree(4)))])
async def test_a_value_that_is_no_tree_of_the_problem_is_a_miss(value: bytes) -> None:
    store, metrics, grow = MemoryTreeStore(max_bytes=1 << 20, ttl_s=60), Metrics(), Growing()
    await put(store, value)
    cache = TreeCache(store, metrics)
    result = await run(cache, grow)
    assert (result.usage.cached_trajectories, grow.runs) == (0, 1)
    assert (await run(cache, grow)).usage.cached_trajectories == 4
    assert grow.runs == 1
    page = metrics.page().decode()
    assert 'rstar_cache_errors_total{kind="bad_value"}' in page
    assert 'rstar_cache_errors_total{kind="bad_value"} 0.0' not in page


async def test_a_growing_tree_is_stored_every_few_trajectories() -> None:
    store, grow = MemoryTreeStore(max_bytes=1 << 20, ttl_s=60), Growing(CHECKPOINT_TRAJECTORIES + 4)
    grow.pause_at = CHECKPOINT_TRAJECTORIES
    cache = TreeCache(store, Metrics())
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        solving = group.create_task(run(cache, grow, grow.trajectories))
        await grow.paused.wait()
        while (stored := await store.load(KEY)) is None:
            await asyncio.to_thread(lambda: None)
        assert decode(stored.value).trajectories == CHECKPOINT_TRAJECTORIES
        grow.go_on.set()
    stored = await store.load(KEY)
    assert stored is not None
    assert decode(stored.value) == solving.result().tree


async def test_a_search_that_loses_its_lease_follows_the_stored_tree() -> None:
    class Overtaken(MemoryTreeStore):
        """At the first commit another search has written a larger tree."""

        is_overtaken = False

        async def commit(self, lease: Lease, value: bytes) -> None:
            if not self.is_overtaken:
                self.is_overtaken = True
                others = Growing(20)
                tree = Tree(PROBLEM)
                await others(tree, lambda _: None)
                await super().commit(lease, encode(save(tree)))
                raise LeaseLost
            await super().commit(lease, value)

    store, metrics, grow = Overtaken(max_bytes=1 << 20, ttl_s=60), Metrics(), Growing()
    result = await run(TreeCache(store, metrics), grow)
    assert (result.usage.cached_trajectories, grow.runs) == (20, 1)
    assert 'rstar_cache_errors_total{kind="lease_lost"} 1.0' in metrics.page().decode()


async def test_a_search_that_fails_leaves_the_cache_usable() -> None:
    async def failing(tree: Tree, on_event: OnEvent) -> SearchResult:
        raise Refusal(RefusalKind.OVERLOADED, "no slot")

    cache, grow = TreeCache(MemoryTreeStore(max_bytes=1 << 20, ttl_s=60), Metrics()), Growing()
    with pytest.raises(Refusal):
        await cache.solve(running(), KEY, equality=StringEquality(), grow=failing)
    assert (await run(cache, grow)).usage.trajectories == 4
