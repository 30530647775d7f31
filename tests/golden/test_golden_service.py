"""Golden responses of the service: answers, event streams, errors, metrics and the OpenAPI document."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest

from tests.golden.golden_files import (
    check_json,
    check_lines,
    metric_families,
    response_as_json,
    without_prose,
)
from tests.golden.service import API_KEY, SCRIPTED_PROBLEM, Service, fake_service

JSON = {"content-type": "application/json"}
NAMED = {"x-request-id": "golden"}
CHAT = "/v1/chat/completions"
BODY = {"problem": "3+4+5", "trajectories": 3, "search": {"parallel_rollouts": 1, "candidates": 3}}


def solve_body(*, search: Mapping[str, object] | None = None, **fields: object) -> dict[str, object]:
    """A small search that repeats itself exactly."""
    return {**BODY, **fields, "search": {"parallel_rollouts": 1, "candidates": 3, **(search or {})}}


def chat_body(*, problem: str = "3+4+5", **fields: object) -> dict[str, object]:
    """The same search by a client of the OpenAI API."""
    search = {"parallel_rollouts": 1, "candidates": 3, "trajectories": 3}
    return {"model": "rstar", "messages": [{"role": "user", "content": problem}], "search": search, **fields}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request, and how it is served."""

    body: object = None
    content: bytes | None = None
    method: str = "POST"
    path: str = "/solve"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    scripted: bool = False
    keyed: bool = False
    settings: Mapping[str, object] = field(default_factory=dict[str, object])

    async def send(self, service: Service) -> httpx.Response:
        headers = {**NAMED, **self.headers}
        if self.content is not None:
            return await service.client.request(self.method, self.path, content=self.content, headers=headers)
        return await service.client.request(self.method, self.path, json=self.body, headers=headers)


CASES = {
    # Answers.
    "mcts": Case(body=BODY),
    "mcts_with_tree": Case(body=solve_body(trajectories=4, return_tree=True, seed=2)),
    "mcts_puct_best": Case(body=solve_body(search={"tree_policy": "puct", "selection": "best", "exploration": 0.5})),
    "mcts_undecided": Case(body=solve_body(problem="1+2", trajectories=6, search={"stop_when_decided": False})),
    "low_effort": Case(body={"problem": "3+4", "effort": "low", "search": {"parallel_rollouts": 1}}),
    "greedy": Case(body=solve_body(search={"strategy": "greedy"})),
    "majority": Case(body=solve_body(trajectories=5, search={"strategy": "majority"})),
    "best_of_n": Case(body=solve_body(trajectories=5, search={"strategy": "best_of_n"})),
    "step_beam": Case(body=solve_body(trajectories=4, search={"strategy": "step_beam", "beam_width": 2})),
    "scripted": Case(
        body=solve_body(problem=SCRIPTED_PROBLEM, search={"candidates": 3}, return_tree=True),
        scripted=True,
    ),
    "token_limit": Case(body=solve_body(trajectories=50, max_tokens=60)),
    "with_key": Case(body=BODY, headers={"authorization": f"Bearer {API_KEY}"}, keyed=True),
    "allowed_origin": Case(
        body=BODY,
        headers={"origin": "https://app.example.org"},
        settings={"cors_origins": ("https://app.example.org",)},
    ),
    # Event streams.
    "stream": Case(body=solve_body(stream=True)),
    "stream_scripted": Case(
        body=solve_body(problem=SCRIPTED_PROBLEM, search={"candidates": 3}, stream=True, return_tree=True),
        scripted=True,
    ),
    "stream_failed": Case(body=solve_body(problem="no sum", stream=True)),
    # The OpenAI API.
    "chat": Case(path=CHAT, body=chat_body()),
    "chat_scripted": Case(path=CHAT, body=chat_body(problem=SCRIPTED_PROBLEM), scripted=True),
    "chat_stream": Case(path=CHAT, body=chat_body(stream=True, stream_options={"include_usage": True})),
    "chat_stream_failed": Case(path=CHAT, body=chat_body(problem="no sum", stream=True)),
    "models": Case(method="GET", path="/v1/models"),
    "error_chat_invalid": Case(path=CHAT, body=chat_body(n=2, reasoning_effort="xhigh")),
    "error_chat_conversation": Case(path=CHAT, body=chat_body(messages=[{"role": "assistant", "content": "Hello!"}])),
    "error_chat_model": Case(path=CHAT, body=chat_body(model="gpt-5")),
    "error_chat_no_key": Case(path=CHAT, body=chat_body(), keyed=True),
    "error_chat_not_found": Case(path="/v1/responses", body={}),
    # Errors.
    "error_malformed": Case(content=b'{"problem": "1+1",}', headers=JSON),
    "error_not_an_object": Case(content=b"[]", headers=JSON),
    "error_missing_problem": Case(body={}),
    "error_blank_problem": Case(body={"problem": " \n\t"}),
    "error_bad_field": Case(body={"problem": "1+1", "trajectories": "16"}),
    "error_bad_member": Case(body={"problem": "1+1", "search": {"strategy": "beam"}}),
    "error_unknown_field": Case(body={"problem": "1+1", "problme": "1+1"}),
    "error_several_fields": Case(body={"problem": "", "seed": -1, "search": {"depth": 0, "width": 3}}),
    "error_over_limits": Case(
        body={"problem": "1+1", "trajectories": 257, "timeout_s": 601, "search": {"candidates": 33}}
    ),
    "error_effort_and_trajectories": Case(body={"problem": "1+1", "effort": "low", "trajectories": 3}),
    "error_problem_too_long": Case(body={"problem": "1+" * 4001}),
    "error_problem_over_context": Case(body={"problem": "1+" * 600}),
    "error_stream_invalid": Case(body={"problem": "1+1", "stream": True, "trajectories": 0}),
    "error_no_key": Case(body=BODY, keyed=True),
    "error_wrong_key": Case(body=BODY, headers={"x-api-key": "not-one-of-them"}, keyed=True),
    "error_not_found": Case(method="GET", path="/nope"),
    "error_method": Case(method="GET"),
    "error_body_too_large": Case(content=b" " * 101, headers=JSON, settings={"max_body_bytes": 100}),
    "error_media_type": Case(content=b'{"problem": "1+1"}', headers={"content-type": "text/plain"}),
    "error_search_failed": Case(body={"problem": "no sum"}),
    "error_cancel_unknown": Case(path="/solve/nobody/cancel"),
    "error_origin": Case(
        method="OPTIONS",
        headers={"origin": "https://evil.example.org", "access-control-request-method": "POST"},
        settings={"cors_origins": ("https://app.example.org",)},
    ),
    # Everything else that answers.
    "healthz": Case(method="GET", path="/healthz"),
    "readyz": Case(method="GET", path="/readyz"),
    "version": Case(method="GET", path="/version"),
    "preflight": Case(
        method="OPTIONS",
        headers={
            "origin": "https://app.example.org",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type, x-api-key",
        },
        settings={"cors_origins": ("https://app.example.org",)},
    ),
}


def check_response(name: str, response: httpx.Response) -> None:
    """Whole: status, headers, body."""
    found = response_as_json(response.status_code, response.headers.multi_items(), response.text)
    check_json(f"service/{name}.json", found)


@pytest.mark.parametrize("name", CASES)
async def test_response_is_the_golden_one(name: str) -> None:
    case = CASES[name]
    async with fake_service(scripted=case.scripted, keyed=case.keyed, settings=case.settings) as service:
        check_response(name, await case.send(service))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("error_overloaded", {"concurrent_searches": 1, "queued_searches": 0}),
        ("error_quota", {"max_searches_per_key": 1}),
    ],
)
async def test_refused_search_gets_the_golden_response(name: str, settings: dict[str, int]) -> None:
    async with fake_service(hold=True, settings=settings) as service, asyncio.timeout(30), asyncio.TaskGroup() as group:
        first = group.create_task(Case(body=BODY).send(service))
        await service.searching()
        refused = await Case(body=solve_body(cache="bypass")).send(service)
        service.release()
    assert first.result().status_code == 200
    check_response(name, refused)


async def test_search_over_its_deadline_gets_the_golden_response() -> None:
    async with fake_service(hold=True) as service:
        check_response("deadline", await Case(body=solve_body(timeout_s=0.3)).send(service))


async def test_cancelled_search_gets_the_golden_responses() -> None:
    async with fake_service(hold=True, keyed=True) as service, asyncio.timeout(30), asyncio.TaskGroup() as group:
        key = {"x-api-key": API_KEY}
        first = group.create_task(Case(body=BODY, headers=key).send(service))
        await service.searching()
        cancelling = await Case(path="/solve/golden/cancel", headers=key).send(service)
    check_response("cancel", cancelling)
    check_response("cancelled", first.result())


async def test_broken_part_gets_the_golden_responses() -> None:
    async with fake_service() as service:
        service.break_ppm()
        check_response("error_not_ready", await Case(body=BODY).send(service))
        check_response("readyz_broken", await Case(method="GET", path="/readyz").send(service))


async def test_slow_body_gets_the_golden_response() -> None:
    async def slowly() -> AsyncGenerator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async with fake_service(settings={"body_timeout_s": 0.05}) as service:
        response = await service.client.post("/solve", content=slowly(), headers={**JSON, **NAMED})
    check_response("error_body_timeout", response)


async def test_metric_names_types_and_labels_are_the_golden_ones() -> None:
    async with fake_service(hold=True, settings={"concurrent_searches": 1, "queued_searches": 0}) as service:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(CASES["mcts"].send(service))
            await service.searching()
            await Case(body=solve_body(cache="bypass")).send(service)  # refused
            service.release()
        for name in ("greedy", "token_limit", "error_search_failed", "error_over_limits", "error_not_found"):
            await CASES[name].send(service)
        response = await service.client.get("/metrics", headers=NAMED)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    check_lines("metrics.txt", metric_families(response.text))


async def test_openapi_without_descriptions_is_the_golden_one() -> None:
    async with fake_service() as service:
        document = (await service.client.get("/openapi.json", headers=NAMED)).json()
    document["info"]["version"] = "<version>"
    check_json("openapi.json", without_prose(document))
