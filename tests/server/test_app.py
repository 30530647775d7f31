"""App: problems solved from request to response over fake parts, alone and at once."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from search import Candidate, Path, Policy
from search.testing.fakes import ArithmeticPolicy
from server.engines.errors import EngineFailed
from server.engines.protocols import Sampling
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from tests.server.serving import check_problem, serve

PROBLEM = "3+4+5"


async def test_a_problem_is_answered_with_steps_votes_and_usage() -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 8})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {
        *("id", "answer", "answer_latex", "confidence", "confidence_fitted", "stop_reason", "steps", "answers"),
        *("trajectories_to_answer", "tree_id", "usage", "timing_s", "models"),
    }
    assert 0 < body["confidence"] < 1
    assert body["answers"][0]["answer"] == body["answer"]
    assert 1 <= body["usage"]["trajectories"] <= 8
    assert all(group["votes"] >= 1 for group in body["answers"])
    assert all(set(step) == {"comment", "code", "output", "score", "value", "visits"} for step in body["steps"])
    assert body["steps"][-1]["code"] == "print(total)"
    assert body["steps"][-1]["output"] == body["answer"]
    assert set(body["usage"]) == {
        *("trajectories", "policy_tokens", "ppm_tokens", "ppm_calls", "code_steps", "cached_trajectories"),
    }
    assert set(body["timing_s"]) == {"total", "queue", "policy", "sandbox", "ppm"}
    assert body["models"] == {"policy": "arithmetic@fake", "ppm": "constant@fake"}


async def test_the_same_request_gets_the_same_answer_and_tree() -> None:
    request = {"problem": PROBLEM, "trajectories": 4, "seed": 11, "cache": "bypass"}
    async with serve() as served:
        first, second = [(await served.client.post("/solve", json=request)).json() for _ in range(2)]
        other = (await served.client.post("/solve", json={**request, "seed": 12})).json()
    kept = ("answer", "confidence", "steps", "answers", "tree_id", "usage")
    assert [first[name] for name in kept] == [second[name] for name in kept]
    assert first["id"] != second["id"]
    assert other["tree_id"] != first["tree_id"]


@pytest.mark.parametrize("strategy", ["mcts", "greedy", "majority"])
@pytest.mark.parametrize("selection", [None, "weighted_vote", "majority", "best"])
async def test_every_strategy_and_selection_can_be_asked_for(strategy: str, selection: str | None) -> None:
    options = {"strategy": strategy, "selection": selection, "candidates": 3, "depth": 6, "exploration": 1.0}
    async with serve(opening(fake_parts(policy=ArithmeticPolicy(error_rate=0.0)))) as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 2, "search": options})
    assert response.json()["answer"] == "12"


async def test_the_greedy_strategy_asks_the_greedy_policy() -> None:
    never = GatedPolicy()

    def view(sampling: Sampling) -> Policy:
        return never if sampling.temperature > 0 else ArithmeticPolicy()

    parts = dataclasses.replace(fake_parts(), policy=view)
    async with serve(opening(parts)) as served:
        body = {"problem": PROBLEM, "search": {"strategy": "greedy"}}
        response = await served.client.post("/solve", json=body)
    assert (response.status_code, never.entered.is_set()) == (200, False)


@pytest.mark.parametrize(
    ("body", "draws"),
    [
        ({}, (0.7, 0.9)),
        ({"temperature": 1.5}, (1.5, 0.9)),
        ({"top_p": 0.5}, (0.7, 0.5)),
        ({"temperature": 0, "top_p": 1}, (0.0, 1.0)),
        ({"search": {"strategy": "greedy"}}, (0.0, 1.0)),
    ],
)
async def test_sampling_follows_the_request_else_the_operator(body: dict[str, Any], draws: tuple[float, float]) -> None:
    asked: list[tuple[float, float]] = []

    def view(sampling: Sampling) -> Policy:
        asked.append((sampling.temperature, sampling.top_p))
        return ArithmeticPolicy()

    parts = dataclasses.replace(fake_parts(), policy=view)
    async with serve(opening(parts), settings=Settings(temperature=0.7, top_p=0.9)) as served:
        await served.client.post("/solve", json={"problem": PROBLEM, **body})
    assert asked == [draws]


async def test_a_part_that_raises_fails_this_search_and_no_other() -> None:
    async with serve() as served:
        failed = await served.client.post("/solve", json={"problem": "no sum at all"})
        solved = await served.client.post("/solve", json={"problem": PROBLEM})
    check_problem(failed, 500, "search-failed")
    assert "ValueError" not in failed.text
    assert solved.status_code == 200


async def test_an_engine_that_breaks_off_a_search_is_worth_another_try() -> None:
    class Dying:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise EngineFailed("the policy's engine died on gpu-1")

    async with serve(opening(fake_parts(policy=Dying()))) as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM})
    check_problem(response, 503, "not-ready")
    assert response.headers["retry-after"] == "5"
    assert "gpu-1" not in response.text


async def test_many_requests_are_served_at_once() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy)), settings=Settings(concurrent_searches=3)) as served:

        async def solve(number: int) -> httpx.Response:
            return await served.client.post("/solve", json={"problem": f"{number}+1", "trajectories": 2})

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            solving = [group.create_task(solve(number)) for number in range(8)]
            await policy.entered.wait()
            health = await served.client.get("/healthz")
            policy.gate.set()
    assert health.status_code == 200
    assert [task.result().status_code for task in solving] == [200] * 8
    assert policy.most_waiting <= 3


async def test_the_deadline_returns_the_best_so_far() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "timeout_s": 0.05})
    assert (response.status_code, response.json()["stop_reason"], response.json()["answer"]) == (200, "deadline", None)
    assert policy.waiting == 0


async def test_a_search_that_never_gets_its_turn_is_refused() -> None:
    policy = GatedPolicy()
    parts = opening(fake_parts(policy=policy))
    async with serve(parts, settings=Settings(concurrent_searches=1)) as served, asyncio.TaskGroup() as group:
        first = group.create_task(served.client.post("/solve", json={"problem": PROBLEM}))
        await policy.entered.wait()
        second = await served.client.post("/solve", json={"problem": "1+2", "timeout_s": 0.05})
        policy.gate.set()
    assert first.result().status_code == 200
    check_problem(second, 503, "overloaded")
    assert second.headers["retry-after"].isdecimal()
