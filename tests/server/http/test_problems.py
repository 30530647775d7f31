"""Problems: every error is a problem document that names what is wrong."""

import dataclasses
from typing import Any

import pytest

from server.http.problems import PROBLEMS
from server.parts.fakes import FAKE_PROMPT_TOKENS, fake_parts, opening
from server.solving.refusals import RefusalKind
from tests.server.serving import check_problem, serve

PROBLEM = "3+4+5"


def test_every_kind_of_refusal_has_a_status_and_a_title() -> None:
    assert set(PROBLEMS) == set(RefusalKind)
    assert all(400 <= problem.status < 600 and problem.title for problem in PROBLEMS.values())


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


async def test_an_error_in_the_server_itself_shows_no_detail() -> None:
    def broken(_: str) -> int:
        raise RuntimeError("secret")

    parts = dataclasses.replace(fake_parts(), prompt_tokens=broken)
    async with serve(opening(parts)) as served:
        response = await served.client.post("/solve", json={"problem": PROBLEM})
    check_problem(response, 500, "internal-error")
    assert "secret" not in response.text


async def test_no_error_body_is_the_frameworks_own() -> None:
    async with serve() as served:
        responses = [
            await served.client.get("/nope"),
            await served.client.get("/solve"),
            await served.client.post("/solve", json={}),
            await served.client.post("/solve", content=b"{", headers={"content-type": "application/json"}),
        ]
    assert all(set(response.json()) != {"detail"} for response in responses)
