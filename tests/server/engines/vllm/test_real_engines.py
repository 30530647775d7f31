"""The vLLM engines: cached prefixes, aborts, CPU time, deaths, and processes that always end. On the CPU."""

import asyncio
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
import pytest_asyncio

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.model_folder import ModelFolder
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.rendering import PathTokens
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from server.engines.vllm.watchdog import marked
from server.parts.fakes import fake_parts, opening
from server.parts.serving import Part
from tests.server.engines.built import vllm_policy_of
from tests.server.engines.vllm.processes import command_of, idle_share, pass_s
from tests.server.engines.waiting import until
from tests.server.serving import serve

if TYPE_CHECKING:
    from server.engines.vllm.engine import VllmEngine
    from server.engines.vllm.ppm import VllmScorer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]

logger = logging.getLogger(__name__)

SAMPLED = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48)
NARROW = Sampling(temperature=1.0, top_p=1e-6, max_step_tokens=900)
"""All samples write the greedy step, each for itself."""
SMALL = VllmOptions(
    policy=MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000),
    ppm=MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000),
)
BLOCK_TOKENS = 32
WORKERS = "VLLM_ENABLE_V1_MULTIPROCESSING"
ASLEEP = 0.4
"""Most CPU time of an engine in the second after a pass, as a share of that of a process that never sleeps. Measured
on busy cores: 0.01 to 0.15, and 1.3 to 2.3 for an engine with a Worker."""
RARE = 3
"""Most CPU time of a pass after a pause, as a multiple of that of a pass without one. Measured on busy cores: 1.2 to
2.1, since caches are cold after a pause. With a Worker it was 6 to 8 times that of the other engine."""
TEAM = "openmp team of %N in %P"
"""How OpenMP writes the number of threads of a team and their process."""

SERVER = """
import asyncio, sys
from pathlib import Path
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from tests.server.engines.built import vllm_policy_of

async def main():
    share = MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000)
    engine = vllm_policy_of(Path(sys.argv[1]), VllmOptions(policy=share, ppm=share))
    print(engine.completer.mark, flush=True)
    async with engine:
        print("serving", flush=True)
        await asyncio.sleep(3600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def inner(engine: PolicyEngine) -> "VllmEngine":
    return cast("VllmEngine", engine.completer)


def processes(engine: PolicyEngine) -> list[int]:
    """Those that belong to the engine."""
    return marked(inner(engine).mark)


def length_of(path: Path, folder: FilePath) -> int:
    return len(PathTokens(ModelFolder(folder).step_tokenizer).token_ids(path))


def after(path: Path, *steps: PathStep) -> Path:
    return Path(problem=path.problem, steps=(*path.steps, *steps))


def step_of(length: int, first: int = 20) -> PathStep:
    token_ids = tuple(range(first, first + length))
    return PathStep(text="", token_ids=token_ids, stop=CandidateStop.END_OF_STEP)


async def long_path(engine: PolicyEngine) -> Path:
    """A problem at which the model writes on and on."""
    paths = [Path(problem=f"{k}+1") for k in range(12)]
    steps = [(await engine.policy(NARROW).propose(path, 1, seed=0))[0] for path in paths]
    longest = max(range(len(paths)), key=lambda k: len(steps[k].token_ids))
    assert len(steps[longest].token_ids) > 150
    return paths[longest]


async def refusal(engine: PolicyEngine, path: Path) -> EngineError | None:
    try:
        await engine.policy(NARROW).propose(path, 16, seed=0)
    except EngineError as error:
        return error
    return None


async def test_tokens_and_batches_are_counted(vllm_policy: PolicyEngine) -> None:
    before = vllm_policy.stats
    candidates = await vllm_policy.policy(SAMPLED).propose(Path(problem="1+2"), 12, seed=3)
    await until(lambda: vllm_policy.stats.tokens_generated - before.tokens_generated >= tokens_of(candidates))
    stats = vllm_policy.stats
    assert stats.requests - before.requests == 1
    assert stats.tokens_generated - before.tokens_generated == tokens_of(candidates)
    assert stats.batch_size_sum - before.batch_size_sum == tokens_of(candidates)
    longest = max(len(candidate.token_ids) for candidate in candidates)
    assert longest <= stats.forward_passes - before.forward_passes < 2 * longest
    assert (stats.running, stats.waiting) == (0, 0)


def tokens_of(candidates: Sequence[Candidate]) -> int:
    return sum(len(candidate.token_ids) for candidate in candidates)


async def test_a_child_reuses_its_parents_path(vllm_policy: PolicyEngine, policy_folder: FilePath) -> None:
    root = Path(problem="Seven apples and eight pears, how many pieces of fruit are there?")
    parent, policy = after(root, step_of(70)), vllm_policy.policy(replace(SAMPLED, max_step_tokens=1))
    await policy.propose(parent, 1, seed=1)
    before = vllm_policy.stats
    await policy.propose(after(parent, step_of(40, first=110)), 1, seed=2)
    reused = vllm_policy.stats.tokens_reused - before.tokens_reused
    held = length_of(parent, policy_folder)
    assert reused == held // BLOCK_TOKENS * BLOCK_TOKENS
    assert reused >= 2 * BLOCK_TOKENS


async def test_the_ppm_reuses_a_parents_path(vllm_scorer: "VllmScorer", ppm_folder: FilePath) -> None:
    root = Path(problem="Nine apples and eight pears, how many pieces of fruit are there?")
    parent = after(root, step_of(70))
    await vllm_scorer.score([parent])
    before = vllm_scorer.stats
    await vllm_scorer.score([after(parent, step_of(40, first=110 + k)) for k in range(4)])
    reused = vllm_scorer.stats.tokens_reused - before.tokens_reused
    held = length_of(parent, ppm_folder)
    assert reused >= 4 * (held // BLOCK_TOKENS * BLOCK_TOKENS)


async def test_concurrent_searches_share_forward_passes(vllm_policy: PolicyEngine) -> None:
    before = vllm_policy.stats
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(vllm_policy.policy(SAMPLED).propose(Path(problem=f"{k}+7"), 1, seed=k)) for k in range(16)
        ]
    candidates = [task.result()[0] for task in tasks]
    passes = vllm_policy.stats.forward_passes - before.forward_passes
    assert passes * 3 < tokens_of(candidates)


async def test_aborted_samples_are_not_generated(vllm_policy: PolicyEngine) -> None:
    path = await long_path(vllm_policy)
    before = vllm_policy.stats
    async with asyncio.TaskGroup() as group:
        task = group.create_task(vllm_policy.policy(NARROW).propose(path, 16, seed=0))
        await until(lambda: vllm_policy.stats.tokens_generated - before.tokens_generated >= 64)
        assert vllm_policy.stats.running == 16
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        at_abort = vllm_policy.stats.tokens_generated
    assert vllm_policy.stats.aborted - before.aborted == 1
    # Had any of the 16 gone on, it would be in the batches of these requests.
    others = [(await vllm_policy.policy(SAMPLED).propose(Path(problem="1+2"), 1, seed=seed))[0] for seed in range(4)]
    await until(lambda: vllm_policy.stats.tokens_generated - at_abort >= tokens_of(others))
    assert vllm_policy.stats.tokens_generated - at_abort - tokens_of(others) <= 3 * 16


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def policy_with_worker(policy_folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    """As on several GPUs. On the CPU there is a Worker where the operator asks for it."""
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(WORKERS, "1")
            engine = await stack.enter_async_context(vllm_policy_of(policy_folder, SMALL))
        yield engine


def token_of(engine: PolicyEngine) -> Callable[[], Awaitable[object]]:
    """Asks for a single token, which takes a single pass."""
    policy = engine.policy(replace(SAMPLED, max_step_tokens=1))
    return lambda: policy.propose(Path(problem="1+2"), 1, seed=0)


async def idle_share_of(engine: PolicyEngine) -> float:
    share = await idle_share(lambda: processes(engine), token_of(engine), rounds=3)
    logger.info("CPU time after a pass: %.2f of that of a process that never sleeps", share)
    return share


async def pass_s_of(engine: PolicyEngine, *, pause_s: float) -> float:
    cost_s = await pass_s(lambda: processes(engine), token_of(engine), passes=20, pause_s=pause_s)
    logger.info("CPU time of a pass, %.1f s after the last: %.1f ms", pause_s, 1000 * cost_s)
    return cost_s


async def test_engines_use_hardly_any_cpu_after_a_pass(vllm_policy: PolicyEngine, vllm_scorer: "VllmScorer") -> None:
    assert await idle_share_of(vllm_policy) < ASLEEP
    path = Path(problem="1+2")
    assert await idle_share(lambda: marked(vllm_scorer.mark), lambda: vllm_scorer.score([path]), rounds=3) < ASLEEP


async def test_rare_passes_cost_little_more_cpu(vllm_policy: PolicyEngine) -> None:
    frequent_s = await pass_s_of(vllm_policy, pause_s=0.0)
    assert await pass_s_of(vllm_policy, pause_s=0.1) < RARE * frequent_s


async def test_with_workers_spinning_shows_as_cpu(vllm_policy: PolicyEngine, policy_with_worker: PolicyEngine) -> None:
    """The control of the two tests above: the same measurements notice an engine that spins."""
    assert await idle_share_of(policy_with_worker) > 2 * ASLEEP
    asleep_s = await pass_s_of(vllm_policy, pause_s=0.1)
    assert await pass_s_of(policy_with_worker, pause_s=0.1) > RARE * asleep_s


async def test_a_death_fails_requests_and_is_followed_by_a_restart(vllm_policy: PolicyEngine) -> None:
    await dies_and_restarts(vllm_policy, "EngineCore")


async def test_with_workers_a_worker_s_death_is_noticed(
    policy_with_worker: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKERS, "1")
    await dies_and_restarts(policy_with_worker, "Worker")


async def test_on_a_cpu_an_engine_is_one_process(vllm_policy: PolicyEngine) -> None:
    named = [command_of(process_id) for process_id in processes(vllm_policy)]
    assert len([command for command in named if "EngineCore" in command]) == 1
    assert [command for command in named if "Worker" in command] == []


async def dies_and_restarts(engine: PolicyEngine, victim: str) -> None:
    path, restarts = await long_path(engine), inner(engine).restarts
    expected = await engine.policy(SAMPLED).propose(path, 4, seed=7)
    before = engine.stats
    async with asyncio.TaskGroup() as group:
        pending = [group.create_task(refusal(engine, path)) for _ in range(2)]
        await until(lambda: engine.stats.tokens_generated - before.tokens_generated >= 64)
        (process_id,) = [one for one in processes(engine) if victim in command_of(one)]
        os.kill(process_id, signal.SIGKILL)
    assert {type(task.result()) for task in pending} == {EngineFailed}
    await until(lambda: inner(engine).restarts == restarts + 1 or engine.fault is not None)
    await until(lambda: inner(engine).restarts == restarts + 1 and engine.fault is None)
    again = await engine.policy(SAMPLED).propose(path, 4, seed=7)
    assert [candidate.token_ids for candidate in again] == [candidate.token_ids for candidate in expected]


async def test_a_request_to_a_dead_engine_is_refused(vllm_policy: PolicyEngine) -> None:
    path = await long_path(vllm_policy)
    restarts = inner(vllm_policy).restarts
    parts = replace(fake_parts(), faults=lambda: {Part.POLICY: fault} if (fault := vllm_policy.fault) else {})
    async with serve(opening(parts)) as served:
        for process_id in processes(vllm_policy):
            os.kill(process_id, signal.SIGKILL)
        await until(lambda: vllm_policy.fault is not None)
        unready = await served.client.get("/readyz")
        assert isinstance(await refusal(vllm_policy, path), EngineFailed)
        await until(lambda: inner(vllm_policy).restarts == restarts + 1 and vllm_policy.fault is None)
        ready = await served.client.get("/readyz")
    assert (unready.status_code, ready.status_code) == (503, 200)
    assert unready.json()["parts"]["policy"] == "the policy's engine died and is being started again"


async def test_the_engines_leave_no_series_of_vllms_own(vllm_policy: PolicyEngine, vllm_scorer: "VllmScorer") -> None:
    from prometheus_client import REGISTRY

    assert not [metric.name for metric in REGISTRY.collect() if metric.name.startswith("vllm")]


async def test_closing_refuses_requests_and_ends_every_process(policy_folder: FilePath) -> None:
    engine = vllm_policy_of(policy_folder, SMALL)
    with pytest.raises(EngineClosed, match="not open"):
        await engine.policy(SAMPLED).propose(Path(problem="early"), 1, seed=0)
    async with asyncio.TaskGroup() as group:
        async with engine:
            pending = group.create_task(refusal(engine, Path(problem="0+1")))
            await until(lambda: engine.stats.tokens_generated >= 32)
            assert processes(engine)
        assert isinstance(await pending, EngineClosed)
    assert not processes(engine)
    assert engine.fault is None
    with pytest.raises(EngineClosed):
        await engine.policy(SAMPLED).propose(Path(problem="late"), 1, seed=0)


async def test_a_start_can_be_cancelled(policy_folder: FilePath) -> None:
    engine = vllm_policy_of(policy_folder, SMALL)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(engine.__aenter__())
        await until(lambda: bool(processes(engine)))
        opening.cancel()
    assert not processes(engine)


async def test_a_folder_that_vllm_cannot_serve_is_an_error(policy_folder: FilePath, tmp_path: FilePath) -> None:
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    engine = vllm_policy_of(folder, SMALL)
    with pytest.raises(EngineError, match="the policy's engine could not be started"):
        await engine.__aenter__()
    assert not processes(engine)


class OtherServer(NamedTuple):
    """A process with one engine."""

    process: asyncio.subprocess.Process
    mark: str
    errors: FilePath
    """What it and its engine write to stderr."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_server(
    policy_folder: FilePath, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[OtherServer]:
    """It serves. OpenMP reports its teams of threads. The variable that it was given would make them teams of one."""
    folder = tmp_path_factory.mktemp("server")
    script, errors = folder / "server_of_one_engine.py", folder / "errors"
    script.write_text(SERVER)
    reporting = {"OMP_DISPLAY_AFFINITY": "TRUE", "OMP_AFFINITY_FORMAT": TEAM, "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **reporting, "PYTHONPATH": str(FilePath(__file__).parents[4])}
    command = (sys.executable, str(script), str(policy_folder))
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    assert process.stdout is not None
    mark = (await process.stdout.readline()).decode().strip()
    try:
        assert await process.stdout.readline() == b"serving\n", errors.read_text()
        yield OtherServer(process, mark, errors)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_engine_computes_with_as_many_threads_as_asked(other_server: OtherServer) -> None:
    (process_id,) = [one for one in marked(other_server.mark) if "EngineCore" in command_of(one)]
    teams = re.findall(rf"^openmp team of (\d+) in {process_id}$", other_server.errors.read_text(), re.MULTILINE)
    assert max(map(int, teams), default=1) == len(os.sched_getaffinity(0))


async def test_a_killed_server_leaves_no_engine_behind(other_server: OtherServer) -> None:
    assert marked(other_server.mark)
    other_server.process.kill()
    await other_server.process.wait()
    await until(lambda: not marked(other_server.mark), poll_s=0.1)
