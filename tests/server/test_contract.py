# pyright: basic
"""The API conforms to its own document for every request: no 5xx, no undocumented status, no body of the framework's.

The HTTP server over a real socket, as clients see it, with fake parts behind it.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from search import Candidate, Path
from search.testing.fakes import ArithmeticPolicy
from server.app import create_app
from server.parts.fakes import fake_parts, opening
from server.settings.settings import Settings
from server.solving.solver import Solver

OPERATOR = Settings(max_trajectories=20, max_candidates=8, max_problem_chars=200, access_log=False)
KEY = "a-key-that-is-long-enough"


class AnyProblem:
    """Solves the same sum whatever it is asked."""

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        return await ArithmeticPolicy().propose(replace(path, problem="1+2+3"), n, seed=seed)


def _serve(operator: Settings) -> Iterator[str]:
    """A server in a thread of its own, until the tests are done."""
    ready = threading.Event()
    solver = Solver(opening(fake_parts(policy=AnyProblem())), operator, on_ready=ready.set)
    config = uvicorn.Config(create_app(solver, operator), port=0, log_level="error", lifespan="on", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    yield from _serve(OPERATOR)


@pytest.fixture(scope="module")
def guarded_address() -> Iterator[str]:
    yield from _serve(OPERATOR.model_copy(update={"api_keys": SecretStr(KEY)}))


OPERATIONS = [
    ("POST", "/solve"),
    ("POST", "/solve/{search_id}/cancel"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/v1/models"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/version"),
]

SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
few = settings(max_examples=10, deadline=None, suppress_health_check=SLOW, derandomize=True, database=None)
many = settings(few, max_examples=200)
RUNS = pytest.mark.parametrize("run", [few, pytest.param(many, marks=pytest.mark.slow)], ids=["few", "many"])


@pytest.fixture(scope="module")
def document(address: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.fixture(scope="module")
def guarded_document(guarded_address: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{guarded_address}/openapi.json")


UNCHECKED = {"/v1/chat/completions": [positive_data_acceptance]}
"""No schema can say that some message is the user's, that the problem of all messages together is not too long, or that
one field excludes another. Bodies that break only such a rule are refused, and `_check` sees how."""


def test_every_operation_is_tried(document: BaseSchema) -> None:
    found = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    assert sorted((one.method.upper(), one.path) for one in found) == sorted(OPERATIONS)


TRIALS = [
    *((*operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
    *((*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS[:4]),  # the others take no input
]


@RUNS
@pytest.mark.parametrize(("method", "path", "mode"), TRIALS)
def test_whatever_is_sent_is_answered_as_documented(
    document: BaseSchema, method: str, path: str, mode: GenerationMode, run: settings
) -> None:
    operation = document[path][method]

    @run
    @given(operation.as_strategy(generation_mode=mode))
    def send(case) -> None:
        _check(case.call_and_validate(excluded_checks=UNCHECKED.get(path, [])))

    send()


@RUNS
@pytest.mark.parametrize(("method", "path"), OPERATIONS[:4])
def test_so_it_is_behind_keys(guarded_document: BaseSchema, method: str, path: str, run: settings) -> None:
    operation = guarded_document[path][method]

    @run
    @given(operation.as_strategy())
    def send(case) -> None:
        _check(
            case.call_and_validate(
                headers={"authorization": f"Bearer {KEY}"}, excluded_checks=[ignored_auth, *UNCHECKED.get(path, [])]
            )
        )
        refused = case.call()
        assert refused.status_code == 401
        _check(refused)

    send()


def _check(response) -> None:
    assert response.status_code < 500
    if response.status_code >= 400:
        body = response.json()
        if urlsplit(response.request.url).path.startswith("/v1/"):
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert response.headers["content-type"] == ["application/json"]
            return
        assert set(body) >= {"type", "title", "status", "detail", "instance", "request_id"}
        assert body["type"].startswith("urn:rstar:problem:")
        assert response.headers["content-type"] == ["application/problem+json"]
