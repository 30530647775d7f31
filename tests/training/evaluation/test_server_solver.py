"""The solver behind a URL gives what the solver in this process gives; every refusal says what to do."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from search import Budget, SearchConfig, StopReason
from search.testing.fakes import ArithmeticPolicy, FunctionScorer, hashed_score
from server.parts.fakes import fake_parts, opening
from server.settings.settings import Settings
from tests.server.serving import serve
from tests.training.evaluation.arithmetic import arithmetic_searcher
from training.evaluation.local_solver import LocalSolver
from training.evaluation.server_solver import OFFERED, ServerRefused, ServerSolver, ServerSource, connect
from training.evaluation.solutions import Method

KEY = "evaluation-0123456789"


@asynccontextmanager
async def _serving(settings: Settings | None = None) -> AsyncGenerator[httpx.AsyncClient]:
    parts = replace(fake_parts(scorer=FunctionScorer(hashed_score)), policy=_policy)
    async with serve(opening(parts), settings=settings) as served:
        yield served.client


def _policy(sampling: object) -> ArithmeticPolicy:
    return ArithmeticPolicy(0.0 if getattr(sampling, "temperature", 1.0) == 0 else 0.4)


@pytest.mark.parametrize("method", sorted(OFFERED))
async def test_a_server_gives_what_the_local_solver_gives(method: Method) -> None:
    local = LocalSolver(arithmetic_searcher(), SearchConfig(candidates=5))
    async with _serving() as client:
        remote = await connect(client, candidates=5)
        for budget in (Budget(trajectories=6), Budget(tokens=120)):
            ours = await local.solve("3+4+5+6", method, budget=budget, seed=2)
            theirs = await remote.solve("3+4+5+6", method, budget=budget, seed=2)
            assert theirs.trajectories == ours.trajectories
            assert (theirs.answer, theirs.confidence) == (ours.answer, pytest.approx(ours.confidence))
            assert theirs.tokens >= ours.tokens  # the server counts surplus trajectories too
            assert [moment.own for moment in theirs.moments] == [moment.own for moment in ours.moments]
            assert [moment.answer for moment in theirs.moments] == [moment.answer for moment in ours.moments]
            assert [moment.scores for moment in theirs.moments] == [
                tuple(None if score is None else pytest.approx(score) for score in moment.scores)
                for moment in ours.moments
            ]


async def test_a_problem_too_long_for_the_server_is_unanswered() -> None:
    async with _serving(Settings(max_problem_chars=5)) as client:
        solver = await connect(client, candidates=4)
        solution = await solver.solve("1+2+3+4", Method.MCTS, budget=Budget(trajectories=2), seed=0)
    assert (solution.answer, solution.tokens, solution.stop_reason) == (None, 0, StopReason.EXHAUSTED)


async def test_more_trajectories_than_allowed_are_refused() -> None:
    async with _serving(Settings(max_trajectories=32)) as client:
        solver = await connect(client, candidates=4)
        with pytest.raises(ServerRefused, match=r"allows 32 trajectories, fewer than 64: .* --max-trajectories"):
            await solver.solve("1+2", Method.MCTS, budget=Budget(trajectories=64), seed=0)


async def test_a_missing_key_is_named_with_its_option() -> None:
    async with _serving(Settings(api_keys=SecretStr(f"me={KEY}"))) as client:
        solver = await connect(client, candidates=4)
        with pytest.raises(ServerRefused, match=r"401: no API key was sent.*--api-key-file"):
            await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)
        client.headers["authorization"] = f"Bearer {KEY}"
        assert (await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)).answer == "3"


async def test_too_many_candidates_are_refused_with_the_limit() -> None:
    async with _serving() as client:
        solver = await connect(client, candidates=33)
        with pytest.raises(ServerRefused, match=r"search.candidates: at most 32 allowed, got 33"):
            await solver.solve("1+2", Method.MCTS, budget=Budget(trajectories=1), seed=0)


def _answering(*responses: httpx.Response) -> httpx.AsyncClient:
    """A client whose requests get these responses in turn."""
    queue = list(responses)
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: queue.pop(0)), base_url="http://maths")


_BUSY: dict[str, object] = {
    "type": "urn:rstar:problem:overloaded",
    "detail": "16 searches are running",
    "retry_after_s": 5,
}
_DONE = (
    ': heartbeat\n\nevent: done\ndata: {"answer": "3", "confidence": 0.5, "stop_reason": "budget", "usage": '
    '{"trajectories": 1, "policy_tokens": 9, "code_steps": 2}}\n\n'
)


async def _solver(client: httpx.AsyncClient, pauses: list[float]) -> ServerSolver:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with _serving() as real:
        return replace(await connect(real, candidates=4), client=client, sleep=sleep)


async def test_a_busy_server_is_asked_again_after_the_pause() -> None:
    pauses: list[float] = []
    client = _answering(
        httpx.Response(503, json=_BUSY), httpx.Response(429, json=_BUSY), httpx.Response(200, text=_DONE)
    )
    solver = await _solver(client, pauses)
    solution = await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)
    assert (solution.answer, pauses) == ("3", [5.0, 5.0])


async def test_a_server_that_stays_busy_is_given_up() -> None:
    pauses: list[float] = []
    solver = await _solver(_answering(*[httpx.Response(503, json=_BUSY)] * 500), pauses)
    with pytest.raises(ServerRefused, match=r"503: 16 searches are running.*--concurrency"):
        await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)
    assert sum(pauses) == pytest.approx(900)


async def test_a_failed_search_names_the_request_for_the_log() -> None:
    error = '{"status": 500, "detail": "a part failed", "request_id": "r7", "errors": []}'
    solver = await _solver(_answering(httpx.Response(200, text=f"event: error\ndata: {error}\n\n")), [])
    with pytest.raises(ServerRefused, match=r"500: a part failed \(request r7"):
        await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)


async def test_a_stream_that_breaks_off_is_no_result() -> None:
    solver = await _solver(_answering(httpx.Response(200, text=": heartbeat\n\n")), [])
    with pytest.raises(ServerRefused, match="the stream ended before the result"):
        await solver.solve("1+2", Method.GREEDY, budget=Budget(trajectories=1), seed=0)


async def test_another_kind_of_server_is_recognised() -> None:
    with pytest.raises(ServerRefused, match="describes no SolveRequest"):
        await connect(_answering(httpx.Response(200, json={"openapi": "3.1.0"})), candidates=4)
    with pytest.raises(ServerRefused, match="is it a server of this project"):
        await connect(_answering(httpx.Response(404, text="<html>")), candidates=4)


def test_an_absent_server_is_reported_with_the_command() -> None:
    with pytest.raises(ServerRefused, match=r"no answer from http://127.0.0.1:1 .*`python -m server`"):
        ServerSource(url="http://127.0.0.1:1", candidates=4).about()
