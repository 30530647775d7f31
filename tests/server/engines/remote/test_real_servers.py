"""The remote engines against real vLLM servers with the bundled models: same steps and scores as the torch engines."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep, PathTooLong
from server.bundle.folders import bundled_models
from server.engines.errors import RemoteMismatch, RemoteRefused
from server.engines.policy import CompletionRequest, PolicyEngine, TrainedFormat
from server.engines.protocols import Engines, Sampling
from server.engines.remote.client import RemoteAddress
from server.engines.remote.completer import RemoteCompleter
from server.engines.rendering import PathTokens
from server.engines.torch.checkpoint import load_policy, load_ppm
from server.engines.torch.ppm import torch_scorer
from tests.server.engines.built import remote_engines, torch_policy
from tests.server.engines.remote.stub_models import bundled_tokenizer
from tests.server.engines.remote.vllm_server import vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="module")]

PROBLEMS = (
    "Find the Greatest Common Divisor (GCD) of these numbers: 275, 90. Give only the GCD as your final answer.",
    "Determine the value of y that satisfies: 85 - 83*y = -6389",
    "Solve the following multiplication: 189 * 887. Give only the result as your final answer.",
    "Calculate -5 - 93 + 41. Give only the result as your final answer.",
)
GREEDY = Sampling(temperature=0.0, max_step_tokens=64)
SAMPLED = Sampling(temperature=1.0, max_step_tokens=48)
IDLE_S = 60.0
CONTEXT_TOKENS = 1536


class Servers(NamedTuple):
    policy: RemoteAddress
    ppm: RemoteAddress


@pytest.fixture(scope="module")
def servers() -> Generator[Servers, None, None]:
    models = bundled_models()
    with (
        vllm_server(models.policy, name="policy", is_pooling=False) as policy,
        # In bfloat16 one score of nine was off by 0.015.
        vllm_server(models.ppm, name="ppm", is_pooling=True, dtype="float32") as ppm,
    ):
        yield Servers(policy, ppm)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(servers: Servers) -> AsyncGenerator[Engines]:
    engines = remote_engines(servers.policy, servers.ppm, bundled_models())
    async with engines.policy, engines.ppm:
        yield engines


def after(path: Path, candidate: Candidate) -> Path:
    step = PathStep(text=candidate.text, token_ids=tuple(candidate.token_ids), stop=candidate.stop)
    return Path(problem=path.problem, steps=(*path.steps, step))


async def metrics(address: RemoteAddress) -> dict[str, float]:
    """Sums over labels."""
    async with httpx.AsyncClient(timeout=60.0) as client:
        lines = (await client.get(f"{address.url}/metrics")).text.splitlines()
    sums: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#"):
            name = line.split("{", maxsplit=1)[0].split(" ", maxsplit=1)[0]
            sums[name] = sums.get(name, 0.0) + float(line.rsplit(" ", maxsplit=1)[1])
    return sums


async def greedy_paths(engine: PolicyEngine) -> list[Path]:
    """Two steps of each problem."""
    paths: list[Path] = []
    for problem in PROBLEMS:
        path = Path(problem=problem)
        for _ in range(2):
            path = after(path, (await engine.policy(GREEDY).propose(path, 1, seed=1))[0])
            paths.append(path)
    return paths


async def test_greedy_steps_are_those_of_the_torch_engine(engines: Engines) -> None:
    assert isinstance(engines.policy, PolicyEngine)
    remote = await greedy_paths(engines.policy)
    async with torch_policy(load_policy(bundled_models().policy)) as torch_engine:
        local = await greedy_paths(torch_engine)
    assert [path.steps[-1].token_ids for path in remote] == [path.steps[-1].token_ids for path in local]
    assert [path.steps[-1].text for path in remote] == [path.steps[-1].text for path in local]
    assert {path.steps[-1].stop for path in remote} <= {CandidateStop.END_OF_STEP, CandidateStop.END_OF_CODE}


async def test_scores_are_those_of_the_torch_engine(engines: Engines) -> None:
    assert isinstance(engines.policy, PolicyEngine)
    paths = [Path(problem=PROBLEMS[0]), *await greedy_paths(engines.policy)]
    async with torch_scorer(load_ppm(bundled_models().ppm)) as torch_engine:
        expected = await torch_engine.score(paths)
    found = await engines.ppm.score(paths)
    assert list(found) == pytest.approx(list(expected), abs=0.002)
    assert list(await engines.ppm.score(paths[::-1])) == pytest.approx(list(found)[::-1], abs=0.01)


async def test_a_seed_decides_all_samples(engines: Engines) -> None:
    path = Path(problem=PROBLEMS[1])
    policy = engines.policy.policy(dataclasses.replace(SAMPLED, temperature=2.0))
    one, again, two = [await policy.propose(path, 8, seed=seed) for seed in (5, 5, 6)]
    assert [candidate.token_ids for candidate in one] == [candidate.token_ids for candidate in again]
    assert {candidate.token_ids for candidate in one} != {candidate.token_ids for candidate in two}
    assert len({candidate.token_ids for candidate in (*one, *two)}) > 2
    assert len(await policy.propose(path, 2, seed=2**64 - 1)) == 2


async def test_requests_at_once_share_the_server_s_batch(engines: Engines) -> None:
    async def propose(problem: str) -> Sequence[Candidate]:
        return await engines.policy.policy(SAMPLED).propose(Path(problem=problem), 8, seed=3)

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(propose(f"What is {k} + {k}?")) for k in range(12)]
    assert [len(call.result()) for call in calls] == [8] * 12
    assert engines.policy.stats.running == 0


async def test_the_prefix_cache_hits_from_parent_to_child(engines: Engines, servers: Servers) -> None:
    paths = [Path(problem=f"A long story. {PROBLEMS[0]} {PROBLEMS[1]}")]
    for _ in range(2):
        paths.append(after(paths[-1], (await engines.policy.policy(GREEDY).propose(paths[-1], 1, seed=1))[0]))
    before, reused = await metrics(servers.policy), engines.policy.stats.tokens_reused
    await engines.policy.policy(SAMPLED).propose(paths[-1], 4, seed=1)
    hits = (await metrics(servers.policy))["vllm:prefix_cache_hits_total"] - before["vllm:prefix_cache_hits_total"]
    prompt = len(PathTokens(bundled_tokenizer()).token_ids(paths[-1]))
    assert hits >= prompt // 2
    assert engines.policy.stats.tokens_reused - reused >= prompt // 2


async def test_cancelling_a_call_ends_the_generation_on_the_server(servers: Servers) -> None:
    prompt = PathTokens(bundled_tokenizer()).token_ids(Path(problem="Go on."))
    # Without stops, and more tokens than any machine writes before it is asked twice.
    endless = CompletionRequest(
        segments=(prompt,), n=64, seed=1, sampling=Sampling(temperature=2.0), max_tokens=CONTEXT_TOKENS - len(prompt)
    )
    async with RemoteCompleter(
        servers.policy, TrainedFormat(bundled_tokenizer()), context_tokens=CONTEXT_TOKENS
    ) as completer:
        before = (await metrics(servers.policy))["vllm:generation_tokens_total"]
        async with asyncio.TaskGroup() as group:
            call = group.create_task(completer.complete(endless))
            await until_running(servers.policy, at_least=1)
            call.cancel()
            await until_running(servers.policy, at_most=0)
        at_rest = (await metrics(servers.policy))["vllm:generation_tokens_total"]
        (answer,) = await completer.complete(dataclasses.replace(endless, n=1, max_tokens=5))
        afterwards = (await metrics(servers.policy))["vllm:generation_tokens_total"]
    assert call.cancelled()
    assert completer.stats.aborted == 1
    assert at_rest - before < endless.n * endless.max_tokens / 2
    assert afterwards - at_rest == len(answer.token_ids)


async def until_running(address: RemoteAddress, *, at_least: int = 0, at_most: int = 10**6) -> None:
    """The server has no event for this, so it is polled."""
    async with asyncio.timeout(IDLE_S):
        while not at_least <= (await metrics(address))["vllm:num_requests_running"] <= at_most:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_step_may_fill_the_context_and_no_more(engines: Engines) -> None:
    used = engines.policy.prompt_tokens("1?")
    context = engines.policy.context_tokens
    for room in (3, 0):
        step = PathStep(text="", token_ids=(40,) * (context - used - room), stop=CandidateStop.END_OF_STEP)
        path = Path(problem="1?", steps=(step,))
        if room:
            (candidate,) = await engines.policy.policy(SAMPLED).propose(path, 1, seed=1)
            assert len(candidate.token_ids) <= room
            assert len(await engines.ppm.score([path])) == 1
        else:
            with pytest.raises(PathTooLong):
                await engines.policy.policy(SAMPLED).propose(path, 1, seed=1)


async def test_servers_in_the_wrong_place_are_refused(servers: Servers) -> None:
    swapped = remote_engines(servers.ppm, servers.policy, bundled_models())
    with pytest.raises(RemoteRefused, match=r"/classify answered HTTP 404.*right kind of model"):
        await swapped.ppm.__aenter__()
    keyless = dataclasses.replace(servers.policy, api_key=None)
    with pytest.raises(RemoteRefused, match="set the API key"):
        await remote_engines(keyless, servers.ppm, bundled_models()).policy.__aenter__()
    elsewhere = dataclasses.replace(servers.policy, model="another")
    with pytest.raises(RemoteMismatch, match="serves policy, not another"):
        await remote_engines(elsewhere, servers.ppm, bundled_models()).policy.__aenter__()
    assert (await metrics(servers.ppm))["vllm:num_requests_running"] == 0
