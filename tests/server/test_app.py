"""The application over fake parts: what clients get, right or wrong."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
import pytest

from search import Candidate, Path, Policy
from search.testing.fakes import ArithmeticPolicy
from server.engines.errors import EngineFailed
from server.engines.protocols import Sampling
from server.parts.fakes import FAKE_PROMPT_TOKENS, GatedPolicy, fake_parts, opening
from server.parts.serving import Part
from server.settings.settings import Settings
from tests.server.serving import serve

PROBLEM = "3+4+5"


def check_problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Every error looks alike; returns its body."""
    body = response.json()
    assert (response.status_code, body["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:rstar:problem:{name}"
    assert {"type", "title", "status", "detail", "instance", "request_id", "errors"} == set(body) - {"retry_after_s"}
    assert str(body.get("retry_after_s", "")) == response.headers.get("retry-after", "")
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


async def test_a_problem_is_answered_with_steps_votes_and_usage() -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 8})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {
        *("id", "answer", "answer_latex", "confidence", "stop_reason", "steps", "answers"),
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
    request = {"problem": PROBLEM, "trajectories": 4, "seed": 11}
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


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "problem"),
        ({"problem": ""}, "problem"),
        ({"problem": " \n\t\u00a0"}, "problem"),
        ({"problem": None}, "problem"),
        ({"problem": 7}, "problem"),
        ({"problem": ["1+1"]}, "problem"),
        ({"problem": {"text": "1+1"}}, "problem"),
        ({"problem": True}, "problem"),
        ({"problem": "1+" * 4001}, "problem"),
        ({"problem": "1+1", "trajectories": 0}, "trajectories"),
        ({"problem": "1+1", "trajectories": -3}, "trajectories"),
        ({"problem": "1+1", "trajectories": 257}, "trajectories"),
        ({"problem": "1+1", "trajectories": 10**30}, "trajectories"),
        ({"problem": "1+1", "trajectories": 2.5}, "trajectories"),
        ({"problem": "1+1", "trajectories": "16"}, "trajectories"),
        ({"problem": "1+1", "trajectories": True}, "trajectories"),
        ({"problem": "1+1", "timeout_s": 0}, "timeout_s"),
        ({"problem": "1+1", "timeout_s": 601}, "timeout_s"),
        ({"problem": "1+1", "timeout_s": "10"}, "timeout_s"),
        ({"problem": "1+1", "seed": -1}, "seed"),
        ({"problem": "1+1", "seed": 2**53}, "seed"),
        ({"problem": "1+1", "stream": "yes"}, "stream"),
        ({"problem": "1+1", "search": []}, "search"),
        ({"problem": "1+1", "search": None}, "search"),
        ({"problem": "1+1", "search": {"strategy": "beam"}}, "search.strategy"),
        ({"problem": "1+1", "search": {"candidates": 33}}, "search.candidates"),
        ({"problem": "1+1", "search": {"depth": 0}}, "search.depth"),
        ({"problem": "1+1", "search": {"exploration": -0.5}}, "search.exploration"),
        ({"problem": "1+1", "search": {"exploration": 1e300}}, "search.exploration"),
        ({"problem": "1+1", "search": {"selection": 1}}, "search.selection"),
        ({"problem": "1+1", "search": {"width": 3}}, "search.width"),
        ({"problem": "1+1", "problme": "1+1"}, "problme"),
    ],
)
async def test_a_bad_field_is_named(body: dict[str, Any], field: str) -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json=body)
    problem = check_problem(response, 422, "invalid-request")
    (error,) = problem["errors"]
    assert (error["field"], error["pointer"]) == (field, "#/" + field.replace(".", "/"))
    assert field in problem["detail"]
    assert len(response.text) < 2000


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"problem", b'{"problem": "1+1",}', b"\xff\xfe\x00", b'{"problem": "\xff"}', b"[" * 30_000],
)
async def test_a_body_that_is_no_json_is_malformed(body: bytes) -> None:
    async with serve() as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": "application/json"})
    check_problem(response, 400, "malformed-body")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"1+1"', b"7", b'{"problem": "1+1", "timeout_s": NaN}'])
async def test_json_of_another_shape_is_invalid(body: bytes) -> None:
    async with serve() as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": "application/json"})
    check_problem(response, 422, "invalid-request")


async def test_a_number_of_thousands_of_digits_is_refused_in_short() -> None:
    body = b'{"problem": "1+1", "trajectories": ' + b"9" * 4000 + b"}"
    async with serve() as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": "application/json"})
    check_problem(response, 422, "invalid-request")
    assert len(response.text) < 1000


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_another_media_type_is_unsupported(content_type: str) -> None:
    body = json.dumps({"problem": PROBLEM}).encode()
    async with serve() as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": content_type})
    check_problem(response, 415, "unsupported-media-type")


async def test_a_charset_parameter_does_no_harm() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    async with serve() as served:
        response = await served.client.post("/solve", content=b'{"problem": "1+1"}', headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_body_over_the_limit_is_too_large(*, is_declared: bool) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(3):
            yield b" " * 50

    body = b" " * 101 if is_declared else chunks()
    headers = {"content-type": "application/json"}
    async with serve(settings=Settings(max_body_bytes=100)) as served:
        response = await served.client.post("/solve", content=body, headers=headers)
    problem = check_problem(response, 413, "body-too-large")
    (error,) = problem["errors"]
    assert (error["limit"], error["value"]) == (100, 101 if is_declared else 150)


async def test_a_body_at_the_limit_is_read() -> None:
    body = b'{"problem": "1+1"}'
    async with serve(settings=Settings(max_body_bytes=len(body))) as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


async def test_a_problem_longer_than_the_context_is_refused_in_tokens() -> None:
    async with serve() as served:
        response = await served.client.post("/solve", json={"problem": "1+" * 600})
    (error,) = check_problem(response, 422, "invalid-request")["errors"]
    assert (error["field"], error["limit"], error["value"]) == ("problem", FAKE_PROMPT_TOKENS, 1200)
    assert "tokens" in error["detail"]


@pytest.mark.parametrize("path", ["/", "/nope", "/solve/", "/docs", "/solve/1"])
async def test_an_unknown_path_is_not_found(path: str) -> None:
    async with serve() as served:
        response = await served.client.get(path)
    assert check_problem(response, 404, "not-found")["instance"] == path


@pytest.mark.parametrize(("method", "path"), [("GET", "/solve"), ("DELETE", "/solve"), ("POST", "/healthz")])
async def test_another_method_is_not_allowed_and_the_right_one_named(method: str, path: str) -> None:
    async with serve() as served:
        response = await served.client.request(method, path)
    check_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == ("POST" if path == "/solve" else "GET")


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


async def test_an_error_in_the_server_itself_shows_no_detail() -> None:
    def broken(_: str) -> int:
        raise RuntimeError("secret")

    parts = dataclasses.replace(fake_parts(), prompt_tokens=broken)
    async with serve(opening(parts)) as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM})
    check_problem(response, 500, "internal-error")
    assert "secret" not in response.text


async def test_a_broken_part_is_named_and_nothing_is_accepted() -> None:
    faults: dict[Part, str] = {}
    async with serve(opening(fake_parts(faults=faults))) as served:
        well = await served.client.get("/readyz")
        faults[Part.PPM] = "its engine failed"
        broken = await served.client.get("/readyz")
        refused = await served.client.post("/solve", json={"problem": PROBLEM})
    assert (well.status_code, well.json()["ready"]) == (200, True)
    assert set(well.json()["parts"].values()) == {"ready"}
    assert (broken.status_code, broken.json()["ready"]) == (503, False)
    assert broken.json()["parts"] == {
        "policy": "ready",
        "ppm": "its engine failed",
        "sandbox": "ready",
        "equality": "ready",
    }
    assert "ppm: its engine failed" in check_problem(refused, 503, "not-ready")["detail"]
    assert refused.headers["retry-after"].isdecimal()


async def test_health_and_version_are_told_to_anyone() -> None:
    async with serve() as served:
        health = await served.client.get("/healthz")
        version = await served.client.get("/version")
    assert health.json() == {"status": "ok"}
    assert version.json()["models"] == {"policy": "arithmetic@fake", "ppm": "constant@fake"}
    assert version.json()["version"]


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
        second = await served.client.post("/solve", json={"problem": PROBLEM, "timeout_s": 0.05})
        policy.gate.set()
    assert first.result().status_code == 200
    check_problem(second, 503, "overloaded")
    assert second.headers["retry-after"].isdecimal()


async def test_no_error_body_is_the_frameworks_own() -> None:
    async with serve() as served:
        responses = [
            await served.client.get("/nope"),
            await served.client.get("/solve"),
            await served.client.post("/solve", json={}),
            await served.client.post("/solve", content=b"{", headers={"content-type": "application/json"}),
        ]
    assert all(set(response.json()) != {"detail"} for response in responses)
