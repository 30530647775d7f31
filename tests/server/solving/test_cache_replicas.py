"""Cache: replicas that share a real Redis or Valkey, which is also gone, restarted and slow; replicas that die."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from search import save
from search.testing.fakes import ArithmeticPolicy
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from server.solving.cache import CHECKPOINT_TRAJECTORIES
from server.solving.searches import CacheUse, FinishedSearch, RunningSearch
from tests.server.observability.scrape import scrape
from tests.server.serving import serve
from tests.server.solving.replica import TRAJECTORIES, shared_request
from tests.server.trees.redis_server import SERVERS, TIMEOUT_S, RedisServer

REPLICA = Path(__file__).parent / "replica.py"


@pytest.fixture(params=SERVERS)
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[RedisServer]:
    with RedisServer(request.param, tmp_path) as running:
        yield running


def sharing(redis: RedisServer, **others: float) -> Settings:
    return Settings.model_validate(
        {"redis_url": SecretStr(redis.url), "redis_timeout_s": TIMEOUT_S, "queued_searches": 0, **others}
    )


async def finished(running: RunningSearch) -> FinishedSearch:
    ending = await running.ending()
    assert isinstance(ending, FinishedSearch), ending
    return ending


async def test_identical_problems_on_two_replicas_cost_one_search(redis: RedisServer) -> None:
    policies = [GatedPolicy(policy=ArithmeticPolicy(error_rate=0.5)) for _ in range(2)]
    parts = [opening(fake_parts(policy=policy)) for policy in policies]
    settings = sharing(redis, concurrent_searches=1)
    async with (
        asyncio.timeout(60),
        serve(parts[0], settings=settings) as one,
        serve(parts[1], settings=settings) as two,
    ):
        first = one.solver.start(shared_request(), search_id="first")
        first.watch()
        await policies[0].entered.wait()
        others = [
            replica.solver.start(shared_request(), search_id=f"{number}")
            for replica, count in ((one, 9), (two, 10))
            for number in range(count)
        ]
        for other in others:
            other.watch()
            await other.accepted()
        policies[0].gate.set()
        results = [(await finished(running)).result for running in (first, *others)]
        assert not policies[1].entered.is_set()
        again = await finished(two.solver.start(shared_request(), search_id="again"))
    assert [result.usage.policy_tokens > 0 for result in results] == [True] + 19 * [False]
    assert {result.answer for result in results} == {again.result.answer}
    assert again.result.usage.cached_trajectories == TRAJECTORIES


async def test_a_server_goes_on_without_redis_and_with_it_again(redis: RedisServer) -> None:
    body = {"problem": "3+4+5", "trajectories": 4}
    async with asyncio.timeout(60), serve(settings=sharing(redis)) as served:
        before = [(await served.client.post("/solve", json=body)).json() for _ in range(2)]
        assert (await served.client.get("/readyz")).json()["parts"]["redis"] == "ready"
        redis.kill()
        without = [(await served.client.post("/solve", json=body)) for _ in range(3)]
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["redis"][:21]) == (200, "Redis does not answer")
        redis.start()
        while (await served.client.get("/readyz")).json()["parts"]["redis"] != "ready":  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.1)
        after = [(await served.client.post("/solve", json=body)).json() for _ in range(2)]
        assert (await scrape(served.client))['rstar_cache_errors_total{kind="unavailable"}'] > 0
    for first, second in (before, after):
        assert first["usage"]["policy_tokens"] > 0
        assert second["usage"]["policy_tokens"] == 0
    assert [(one.status_code, one.json()["usage"]["policy_tokens"] > 0) for one in without] == 3 * [(200, True)]


async def test_a_redis_that_does_not_answer_delays_a_request_little(redis: RedisServer) -> None:
    async with asyncio.timeout(60), serve(settings=sharing(redis, redis_timeout_s=0.3)) as served:
        assert (await served.client.post("/solve", json={"problem": "3+4"})).status_code == 200
        redis.pause()
        paused = await served.client.post("/solve", json={"problem": "3+5", "timeout_s": 20})
        redis.go_on()
    assert paused.json()["answer"] is not None
    assert paused.json()["timing_s"]["total"] < 5


@contextmanager
def led_elsewhere(redis: RedisServer, calls: int) -> "Generator[subprocess.Popen[str]]":
    """A process that leads the search, and blocks after some of its 114 calls. Its first 11 trajectories take 60."""
    command = [sys.executable, str(REPLICA), redis.url, str(calls)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPLICA.parents[3]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "blocked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "checkpoints"), [(0, 0), (60, 1), (90, 2)])
async def test_another_replica_takes_over_from_one_that_was_killed(
    redis: RedisServer, calls: int, checkpoints: int
) -> None:
    serving = serve(opening(fake_parts(policy=ArithmeticPolicy(error_rate=0.5))), settings=sharing(redis))
    with led_elsewhere(redis, calls) as process:
        async with asyncio.timeout(90), serving as served:
            follower = served.solver.start(shared_request(), search_id="2")
            follower.watch()
            await follower.accepted()
            await asyncio.sleep(3)  # the leader's last trajectories are stored after two seconds
            process.kill()
            result = (await finished(follower)).result
            straight = await finished(
                served.solver.start(replace(shared_request(), cache=CacheUse.BYPASS), search_id="3")
            )
            assert (await scrape(served.client))["rstar_cache_takeovers_total"] == 1
    assert result.usage.cached_trajectories >= checkpoints * CHECKPOINT_TRAJECTORIES
    assert save(result.tree) == save(straight.result.tree)


@pytest.mark.slow
async def test_a_leader_paused_beyond_its_lease_writes_nothing_more(redis: RedisServer) -> None:
    serving = serve(opening(fake_parts(policy=ArithmeticPolicy(error_rate=0.5))), settings=sharing(redis))
    with led_elsewhere(redis, 60) as process:
        async with asyncio.timeout(90), serving as served:
            process.send_signal(signal.SIGSTOP)
            result = (await finished(served.solver.start(shared_request(), search_id="2"))).result
            store = served.solver.tree_store
            assert store is not None
            key = (await finished(served.solver.start(shared_request(), search_id="3"))).fingerprint
            stored = await store.load(key)
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGCONT)
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == f"budget {TRAJECTORIES}\n"
            assert await store.load(key) == stored
    assert result.usage.trajectories == TRAJECTORIES
