"""Cache: what a repeated problem costs, one search per tree at a time, and what is stored while a tree grows."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from search import Candidate, NodeAdded, Path, StopReason, Strategy, save
from search.testing.fakes import ArithmeticPolicy
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import CacheUse, FinishedSearch, RunningSearch, SearchRequest
from server.trees.entries import Fingerprint
from tests.server.observability.scrape import scrape
from tests.server.serving import Served, a_request, check_problem, serve

PROBLEM = "3+4+5+6+7+8"
ALONE = {"parallel_rollouts": 1, "stop_when_decided": False, "candidates": 6}
KEY = Fingerprint("1" * 64)


async def solve(served: Served, trajectories: int = 4, **fields: object) -> dict[str, Any]:
    """The response to a request that uses the cache."""
    body = {"problem": PROBLEM, "trajectories": trajectories, "search": ALONE, **fields}
    response = await served.client.post("/solve", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def spent(response: Mapping[str, Any]) -> tuple[int, int, int]:
    usage = response["usage"]
    return usage["policy_tokens"], usage["ppm_calls"], usage["code_steps"]


async def cache_results(served: Served) -> dict[str, float]:
    """Requests by what the cache did for them, where it did anything."""
    found = await scrape(served.client)
    prefix = 'rstar_cache_requests_total{result="'
    return {name[len(prefix) : -2]: value for name, value in found.items() if name.startswith(prefix) and value}


def uncertain() -> ArithmeticPolicy:
    """Makes trees that small budgets do not exhaust."""
    return ArithmeticPolicy(error_rate=0.5)


async def test_a_repeated_problem_is_answered_without_a_slot() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    settings = Settings(concurrent_searches=1, queued_searches=0)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        first = await solve(served)
        policy.gate.clear()
        busy = served.solver.start(a_request("1+2"), search_id="busy")
        await busy.accepted()
        check_problem(await served.client.post("/solve", json={"problem": "1+3"}), 503, "overloaded")
        again = await solve(served, problem=f" {PROBLEM}\n")
        assert not busy.stop.is_asked
    assert spent(first) > (0, 0, 0)
    assert spent(again) == (0, 0, 0)
    assert first["usage"]["cached_trajectories"] == 0
    assert again["usage"]["cached_trajectories"] == again["usage"]["trajectories"] == 4
    kept = ("answer", "confidence", "steps", "answers", "tree_id", "trajectories_to_answer", "stop_reason")
    assert [first[name] for name in kept] == [again[name] for name in kept]
    assert first["id"] != again["id"]
    assert again["timing_s"]["queue"] == 0


async def test_a_repeated_problem_counts_towards_the_quota() -> None:
    policy = GatedPolicy()
    policy.gate.set()
    settings = Settings(max_searches_per_key=1)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        request = a_request(cache="use")
        await served.solver.start(request, search_id="1", client="ann").ending()
        policy.gate.clear()
        served.solver.start(a_request("2+3"), search_id="2", client="ann")
        with pytest.raises(Refusal) as refused:
            served.solver.start(request, search_id="3", client="ann")
        assert refused.value.kind is RefusalKind.QUOTA_EXCEEDED
        ending = await served.solver.start(request, search_id="4", client="bob").ending()
        assert isinstance(ending, FinishedSearch)
        assert ending.result.usage.policy_tokens == 0


async def test_a_larger_budget_pays_only_the_difference() -> None:
    async with serve(opening(fake_parts(policy=uncertain()))) as served:
        small = await solve(served, 4)
        large = await solve(served, 12, return_tree=True)
        straight = await solve(served, 12, return_tree=True, cache="bypass")
        assert await cache_results(served) == {"miss": 1, "resumed": 1, "bypassed": 1}
    assert (large["usage"]["cached_trajectories"], large["usage"]["trajectories"]) == (4, 12)
    assert small["usage"]["policy_tokens"] + large["usage"]["policy_tokens"] == straight["usage"]["policy_tokens"]
    kept = ("answer", "confidence", "steps", "answers", "trajectories_to_answer", "tree")
    assert [large[name] for name in kept] == [straight[name] for name in kept]


async def test_a_smaller_budget_gets_the_stored_answer() -> None:
    async with serve(opening(fake_parts(policy=uncertain()))) as served:
        large = await solve(served, 8)
        small = await solve(served, 2)
    assert small["answers"] == large["answers"]
    assert small["usage"]["trajectories"] == 8
    assert spent(small) == (0, 0, 0)


async def test_how_the_answer_is_chosen_needs_no_new_tree() -> None:
    async with serve(opening(fake_parts(policy=uncertain()))) as served:
        await solve(served, 8)
        best = await solve(served, 8, search={**ALONE, "selection": "best"})
        sure = await solve(served, 200, search={**ALONE, "stop_at_confidence": 0.01})
    assert spent(best) == spent(sure) == (0, 0, 0)
    assert sure["stop_reason"] == "converged"


@pytest.mark.parametrize("strategy", Strategy)
async def test_trees_of_every_strategy_are_cached_and_extended(strategy: Strategy) -> None:
    options = {**ALONE, "strategy": strategy, "beam_width": 2}
    async with serve(opening(fake_parts(policy=uncertain()))) as served:
        first, again, more = [await solve(served, number, search=options) for number in (4, 4, 6)]
    assert spent(again) == (0, 0, 0)
    assert again["answers"] == first["answers"]
    if strategy is Strategy.GREEDY:
        assert spent(more) == (0, 0, 0)
    else:
        assert (more["usage"]["cached_trajectories"], more["usage"]["trajectories"]) == (4, 6)


async def test_another_seed_or_option_is_another_tree() -> None:
    async with serve() as served:
        responses = [
            await solve(served),
            await solve(served, seed=1),
            await solve(served, temperature=0.5),
            await solve(served, search={**ALONE, "candidates": 4}),
        ]
        assert await cache_results(served) == {"miss": 4}
    assert len({response["tree_id"] for response in responses}) == 4


async def test_refresh_searches_anew_and_stores_the_new_tree() -> None:
    async with serve(opening(fake_parts(policy=uncertain()))) as served:
        await solve(served, 8)
        fresh = await solve(served, 4, cache="refresh")
        again = await solve(served, 4)
        assert await cache_results(served) == {"miss": 1, "refreshed": 1, "hit": 1}
    assert fresh["usage"]["cached_trajectories"] == 0
    assert fresh["usage"]["policy_tokens"] > 0
    assert again["usage"]["trajectories"] == 4


async def test_bypass_neither_reads_nor_stores() -> None:
    async with serve() as served:
        bypassed = [await solve(served, cache="bypass") for _ in range(2)]
        await solve(served)
        assert await cache_results(served) == {"bypassed": 2, "miss": 1}
    assert all(spent(one) > (0, 0, 0) for one in bypassed)


async def test_a_server_without_memory_for_trees_searches_each_time() -> None:
    async with serve(settings=Settings(tree_cache_mb=0)) as served:
        responses = [await solve(served) for _ in range(2)]
        assert await cache_results(served) == {"bypassed": 2}
    assert all(spent(one) > (0, 0, 0) for one in responses)


async def test_a_cached_answer_streams_like_any_other() -> None:
    async with serve() as served:
        first = await solve(served)
        body = {"problem": PROBLEM, "trajectories": 4, "search": ALONE, "stream": True}
        text = (await served.client.post("/solve", json=body)).text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    payloads = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert names == ["search_started", "answer_changed", "done"]
    assert payloads[0]["cached_trajectories"] == 4
    assert payloads[-1]["answer"] == first["answer"]


class CountingPolicy:
    """Counts its calls, and waits in the first of them until the gate opens."""

    def __init__(self) -> None:
        self.calls = 0
        self.gated = GatedPolicy(policy=uncertain())

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        self.calls += 1
        return await self.gated.propose(path, n, seed=seed)


def using(trajectories: int = 4, **fields: object) -> SearchRequest:
    return a_request(PROBLEM, trajectories=trajectories, search=ALONE, cache="use", **fields)


async def finished(running: RunningSearch) -> FinishedSearch:
    ending = await running.ending()
    assert isinstance(ending, FinishedSearch), ending
    return ending


async def test_identical_problems_at_once_cost_one_search() -> None:
    policy = CountingPolicy()
    settings = Settings(concurrent_searches=1, queued_searches=0)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        running = [served.solver.start(using(), search_id=str(number), client=str(number)) for number in range(20)]
        await policy.gated.entered.wait()
        for one in running:
            await one.accepted()
        policy.gated.gate.set()
        results = [(await finished(one)).result for one in running]
        calls = policy.calls
        await finished(served.solver.start(replace(using(), cache=CacheUse.BYPASS), search_id="alone"))
        assert policy.calls == 2 * calls
        assert await cache_results(served) == {"miss": 1, "hit": 19, "bypassed": 1}
        assert (await scrape(served.client))["rstar_cache_lease_waits_total"] == 19
    assert len({result.answer for result in results}) == 1
    assert [result.usage.policy_tokens > 0 for result in results] == [True] + 19 * [False]
    assert {result.usage.cached_trajectories for result in results[1:]} == {4}


async def test_a_search_goes_on_for_followers_when_its_client_leaves() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        leader = served.solver.start(using(), search_id="1")
        watcher = leader.watch()
        await policy.gated.entered.wait()
        follower = served.solver.start(using(), search_id="2")
        events = follower.watch(events=True)
        await follower.accepted()
        watcher.leave()
        assert not leader.stop.is_asked
        policy.gated.gate.set()
        result = (await finished(follower)).result
        assert policy.gated.cancelled == 0
        assert any(isinstance(event, NodeAdded) for event in await events.events())
    assert (result.usage.policy_tokens, result.usage.trajectories) == (0, 4)


async def test_a_search_ends_when_client_and_followers_have_left() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        leader, follower = (served.solver.start(using(), search_id=name) for name in ("1", "2"))
        watchers = [leader.watch(), follower.watch()]
        await policy.gated.entered.wait()
        await follower.accepted()
        for watcher in watchers:
            watcher.leave()
        await leader.ending()
        await follower.ending()
        assert policy.gated.cancelled == 1
        assert policy.calls == 1


async def test_a_follower_goes_on_where_a_cancelled_search_ended() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        leader, follower = (served.solver.start(using(), search_id=name) for name in ("1", "2"))
        await policy.gated.entered.wait()
        await follower.accepted()
        leader.ask_to_end()
        assert (await finished(leader)).result.stop_reason is StopReason.CANCELLED
        policy.gated.gate.set()
        result = (await finished(follower)).result
    assert result.usage.trajectories == 4
    assert result.usage.policy_tokens > 0


async def test_a_follower_goes_on_after_the_leaders_deadline() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        leader = served.solver.start(using(timeout_s=0.2), search_id="1")
        await policy.gated.entered.wait()
        follower = served.solver.start(using(), search_id="2")
        await follower.accepted()
        assert (await finished(leader)).result.stop_reason is StopReason.DEADLINE
        policy.gated.gate.set()
        assert (await finished(follower)).result.usage.trajectories == 4


async def test_a_followers_deadline_ends_its_own_wait_only() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        leader = served.solver.start(using(), search_id="1")
        leader.watch()
        await policy.gated.entered.wait()
        follower = served.solver.start(using(timeout_s=0.05), search_id="2")
        result = (await finished(follower)).result
        assert (result.stop_reason, result.answer) == (StopReason.DEADLINE, None)
        policy.gated.gate.set()
        assert (await finished(leader)).result.answer is not None
        assert policy.gated.cancelled == 0


async def test_a_follower_that_asked_for_more_extends_the_tree() -> None:
    policy = CountingPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20):
        small = served.solver.start(using(4), search_id="1")
        await policy.gated.entered.wait()
        large = served.solver.start(using(8), search_id="2")
        await large.accepted()
        policy.gated.gate.set()
        assert (await finished(small)).result.usage.trajectories == 4
        result = (await finished(large)).result
        straight = await finished(served.solver.start(replace(using(8), cache=CacheUse.BYPASS), search_id="3"))
    assert (result.usage.cached_trajectories, result.usage.trajectories) == (4, 8)
    assert save(result.tree) == save(straight.result.tree)
