"""Models of other makes behind the server: the folders are all that an operator has to name."""

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
from server.parts.fakes import serve
from server.parts.opening import open_local_parts
from server.parts.serving import Part, ServingParts
from server.settings.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATH = Path(problem="What is 3 + 4?")
SETTINGS = Settings(engine="torch", max_step_tokens=12, sandbox_min_level="reduced")
STARTING_S = 300.0


@pytest.fixture(params=["chat", "plain", "own"])
def policy(request: pytest.FixtureRequest) -> FilePath:
    folders = {"chat": "chat_folder", "plain": "plain_folder", "own": "policy_folder"}
    return request.getfixturevalue(folders[request.param])


@pytest.fixture(params=["process_reward", "value_head", "own"])
def ppm(request: pytest.FixtureRequest) -> FilePath:
    folders = {"process_reward": "prm_folder", "value_head": "value_head_folder", "own": "ppm_folder"}
    return request.getfixturevalue(folders[request.param])


async def test_a_problem_is_solved_with_models_of_any_make(policy: FilePath, ppm: FilePath) -> None:
    opened: list[ServingParts] = []
    folders = ModelFolders(policy=policy, ppm=ppm)

    @asynccontextmanager
    async def open_parts(report: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        async with open_local_parts(folders, SETTINGS, report) as parts:
            opened.append(parts)
            yield parts

    async with serve(open_parts, settings=SETTINGS, waits=False) as served:
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


async def test_an_instruct_model_is_shown_how_and_one_of_our_own_is_not(
    chat_folder: FilePath, policy_folder: FilePath, ppm_folder: FilePath, prm_folder: FilePath
) -> None:
    options = EngineOptions(backend="torch")
    instructed = make_engines(ModelFolders(policy=chat_folder, ppm=ppm_folder), options)
    trained = make_engines(ModelFolders(policy=policy_folder, ppm=prm_folder), options)
    assert instructed.policy.prompt_tokens(PATH.problem) > 10 * trained.policy.prompt_tokens(PATH.problem)


def test_vllm_inside_the_server_leaves_other_makes_to_other_engines(
    chat_folder: FilePath, ppm_folder: FilePath
) -> None:
    with pytest.raises(CheckpointError, match="RSTAR_ENGINE=openai"):
        make_engines(ModelFolders(policy=chat_folder, ppm=ppm_folder), EngineOptions(backend="vllm"))


def test_other_makes_are_asked_for_on_vllm_servers_too(chat_folder: FilePath, prm_folder: FilePath) -> None:
    remote = RemoteOptions(policy=RemoteAddress(url="http://gpu-1:8000"), ppm=RemoteAddress(url="http://gpu-2:8000"))
    options = EngineOptions(backend="openai", remote=remote)
    engines = make_engines(ModelFolders(policy=chat_folder, ppm=prm_folder), options)
    assert engines.policy.prompt_tokens(PATH.problem) > 500
