"""Models of other makes behind the server: an operator has to name only the folders."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath

import pytest

from search import Path
from server.bundle.folders import ModelFolders
from server.engines.choice import EngineOptions, RemoteOptions, make_engines
from server.engines.errors import CheckpointError
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress
from server.parts.opening import open_local_parts
from server.parts.serving import Part, ServingParts
from server.settings.settings import Settings
from tests.server.serving import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATH = Path(problem="What is 3 + 4?")
SETTINGS = Settings(engine="torch", max_step_tokens=12, sandbox_min_level="reduced")
STARTING_S = 300.0
ON_SERVERS = EngineOptions(
    backend="openai",
    remote=RemoteOptions(policy=RemoteAddress(url="http://gpu-1:8000"), ppm=RemoteAddress(url="http://gpu-2:8000")),
)


@pytest.fixture(params=["chat", "plain", "own"])
def policy(request: pytest.FixtureRequest) -> FilePath:
    folders = {"chat": "chat_folder", "plain": "plain_folder", "own": "policy_folder"}
    return request.getfixturevalue(folders[request.param])


@pytest.fixture(params=["process_reward", "value_head", "own"])
def ppm(request: pytest.FixtureRequest) -> FilePath:
    folders = {"process_reward": "prm_folder", "value_head": "value_head_folder", "own": "ppm_folder"}
    return request.getfixturevalue(folders[request.param])


async def test_models_of_any_make_solve_a_problem(policy: FilePath, ppm: FilePath) -> None:
    await solves_a_problem(policy, ppm, SETTINGS)


@pytest.mark.vllm
@pytest.mark.parametrize(("policy", "ppm"), [("chat", "process_reward"), ("plain", "own")], indirect=True)
async def test_they_do_on_vllm_beside_the_server(policy: FilePath, ppm: FilePath) -> None:
    small = {"vllm_policy_kv_gb": 0.2, "vllm_ppm_kv_gb": 0.2}
    await solves_a_problem(policy, ppm, SETTINGS.model_copy(update={"engine": "vllm", **small}))


async def solves_a_problem(policy: FilePath, ppm: FilePath, settings: Settings) -> None:
    opened: list[ServingParts] = []
    folders = ModelFolders(policy=policy, ppm=ppm)

    @asynccontextmanager
    async def open_parts(report: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        async with open_local_parts(folders, settings, report) as parts:
            opened.append(parts)
            yield parts

    async with serve(open_parts, settings=settings, waits=False) as served:
        async with asyncio.timeout(STARTING_S):
            await served.ready.wait()
        body = {"problem": PATH.problem, "trajectories": 2, "search": {"candidates": 3}}
        answer = await served.client.post("/solve", json=body, timeout=STARTING_S)
        (parts,) = opened
        stats = parts.engine_stats()
        scores = await parts.scorer.score([PATH])
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["policy_tokens"] > 0
    assert answer.json()["models"]["policy"].startswith(policy.name)
    assert answer.json()["models"]["ppm"].startswith(ppm.name)
    assert stats[EngineName.POLICY].requests > 0
    assert -1 <= scores[0] <= 1


async def test_only_an_instruct_model_reads_examples(
    chat_folder: FilePath, policy_folder: FilePath, ppm_folder: FilePath, prm_folder: FilePath
) -> None:
    options = EngineOptions(backend="torch")
    instructed = make_engines(ModelFolders(policy=chat_folder, ppm=ppm_folder), options)
    trained = make_engines(ModelFolders(policy=policy_folder, ppm=prm_folder), options)
    assert instructed.policy.prompt_tokens(PATH.problem) > 10 * trained.policy.prompt_tokens(PATH.problem)


def test_models_of_any_make_may_be_on_vllm_servers(chat_folder: FilePath, prm_folder: FilePath) -> None:
    engines = make_engines(ModelFolders(policy=chat_folder, ppm=prm_folder), ON_SERVERS)
    assert engines.policy.prompt_tokens(PATH.problem) > 500


def test_vllm_refuses_a_value_head_that_is_not_converted(chat_folder: FilePath, value_head_folder: FilePath) -> None:
    with pytest.raises(CheckpointError, match=r"convert it by server\.engines\.prm_convert"):
        make_engines(ModelFolders(policy=chat_folder, ppm=value_head_folder), ON_SERVERS)
