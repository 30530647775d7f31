"""The vLLM engines: prefixes found again, aborts, deaths, and processes that end whatever happens. On the CPU."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import kill
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import pytest

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.model_folder import read_policy_folder
from server.engines.protocols import Sampling
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from server.engines.vllm.watchdog import marked

if TYPE_CHECKING:
    from server.engines.vllm.policy import VllmPolicyEngine
    from server.engines.vllm.ppm import VllmScorer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]

SAMPLED = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48)
NARROW = Sampling(temperature=1.0, top_p=1e-6, max_step_tokens=900)
"""All samples write the greedy step, each for itself."""
SMALL = VllmOptions(
    policy=MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000),
    ppm=MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000),
)
BLOCK_TOKENS = 32

SERVER = """
import asyncio, sys, threading
from pathlib import Path
from server.engines.model_folder import read_policy_folder
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from server.engines.vllm.policy import VllmPolicyEngine

async def main():
    share = MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000)
    options = VllmOptions(policy=share, ppm=share)
    engine = VllmPolicyEngine(read_policy_folder(Path(sys.argv[1])), options, turn=threading.Lock())
    print(engine.mark, flush=True)
    async with engine:
        print("serving", flush=True)
        await asyncio.sleep(3600)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # other processes tell nobody in between
        await asyncio.sleep(0.002)


def after(path: Path, *steps: PathStep) -> Path:
    return Path(problem=path.problem, steps=(*path.steps, *steps))


def step_of(length: int, first: int = 20) -> PathStep:
    token_ids = tuple(range(first, first + length))
    return PathStep(text="", token_ids=token_ids, stop=CandidateStop.END_OF_STEP)


async def long_path(engine: "VllmPolicyEngine") -> Path:
    """A problem at which the model writes on and on."""
    paths = [Path(problem=f"{k}+1") for k in range(12)]
    steps = [(await engine.policy(NARROW).propose(path, 1, seed=0))[0] for path in paths]
    longest = max(range(len(paths)), key=lambda k: len(steps[k].token_ids))
    assert len(steps[longest].token_ids) > 150
    return paths[longest]


async def refusal(engine: "VllmPolicyEngine", path: Path) -> EngineError | None:
    try:
        await engine.policy(NARROW).propose(path, 16, seed=0)
    except EngineError as error:
        return error
    return None


async def test_tokens_and_batches_are_counted(vllm_policy: "VllmPolicyEngine") -> None:
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


async def test_a_child_finds_its_parents_path_again(vllm_policy: "VllmPolicyEngine") -> None:
    root = Path(problem="Seven apples and eight pears, how many pieces of fruit are there?")
    parent, policy = after(root, step_of(70)), vllm_policy.policy(replace(SAMPLED, max_step_tokens=1))
    await policy.propose(parent, 1, seed=1)
    before = vllm_policy.stats
    await policy.propose(after(parent, step_of(40, first=110)), 1, seed=2)
    reused = vllm_policy.stats.tokens_reused - before.tokens_reused
    held = len(vllm_policy.path_tokens.token_ids(parent))
    assert reused == held // BLOCK_TOKENS * BLOCK_TOKENS
    assert reused >= 2 * BLOCK_TOKENS


async def test_the_ppm_finds_a_parents_path_again(vllm_scorer: "VllmScorer") -> None:
    root = Path(problem="Nine apples and eight pears, how many pieces of fruit are there?")
    parent = after(root, step_of(70))
    await vllm_scorer.score([parent])
    before = vllm_scorer.stats
    await vllm_scorer.score([after(parent, step_of(40, first=110 + k)) for k in range(4)])
    reused = vllm_scorer.stats.tokens_reused - before.tokens_reused
    held = len(vllm_scorer.path_tokens.token_ids(parent))
    assert reused >= 4 * (held // BLOCK_TOKENS * BLOCK_TOKENS)


async def test_concurrent_searches_share_forward_passes(vllm_policy: "VllmPolicyEngine") -> None:
    before = vllm_policy.stats
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(vllm_policy.policy(SAMPLED).propose(Path(problem=f"{k}+7"), 1, seed=k)) for k in range(16)
        ]
    candidates = [task.result()[0] for task in tasks]
    passes = vllm_policy.stats.forward_passes - before.forward_passes
    assert passes * 3 < tokens_of(candidates)


async def test_after_an_abort_of_16_samples_next_to_nothing_is_generated(vllm_policy: "VllmPolicyEngine") -> None:
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


@pytest.mark.parametrize("victim", ["EngineCore", "Worker"])
async def test_a_death_is_told_at_once_and_answered_by_a_restart(vllm_policy: "VllmPolicyEngine", victim: str) -> None:
    path, restarts = await long_path(vllm_policy), vllm_policy.restarts
    expected = await vllm_policy.policy(SAMPLED).propose(path, 4, seed=7)
    before = vllm_policy.stats
    async with asyncio.TaskGroup() as group:
        pending = [group.create_task(refusal(vllm_policy, path)) for _ in range(2)]
        await until(lambda: vllm_policy.stats.tokens_generated - before.tokens_generated >= 64)
        (process_id,) = [one for one in marked(vllm_policy.mark) if victim in command_of(one)]
        kill(process_id, signal.SIGKILL)
    assert {type(task.result()) for task in pending} == {EngineFailed}
    await until(lambda: vllm_policy.restarts == restarts + 1 or vllm_policy.fault is not None)
    await until(lambda: vllm_policy.restarts == restarts + 1 and vllm_policy.fault is None)
    again = await vllm_policy.policy(SAMPLED).propose(path, 4, seed=7)
    assert [candidate.token_ids for candidate in again] == [candidate.token_ids for candidate in expected]


def command_of(process_id: int) -> str:
    return FilePath(f"/proc/{process_id}/cmdline").read_text()


async def test_a_request_to_a_dead_engine_is_refused_and_not_held(vllm_policy: "VllmPolicyEngine") -> None:
    path = await long_path(vllm_policy)
    restarts = vllm_policy.restarts
    for process_id in marked(vllm_policy.mark):
        kill(process_id, signal.SIGKILL)
    await until(lambda: vllm_policy.fault is not None)
    assert isinstance(await refusal(vllm_policy, path), EngineFailed)
    await until(lambda: vllm_policy.restarts == restarts + 1 and vllm_policy.fault is None)


async def test_the_engines_leave_no_series_of_vllms_own(
    vllm_policy: "VllmPolicyEngine", vllm_scorer: "VllmScorer"
) -> None:
    from prometheus_client import REGISTRY

    assert not [metric.name for metric in REGISTRY.collect() if metric.name.startswith("vllm")]


async def test_closing_refuses_what_is_pending_and_ends_every_process(policy_folder: FilePath) -> None:
    from server.engines.vllm.policy import VllmPolicyEngine

    engine = VllmPolicyEngine(read_policy_folder(policy_folder), SMALL, turn=threading.Lock())
    with pytest.raises(EngineClosed, match="not open"):
        await engine.policy(SAMPLED).propose(Path(problem="early"), 1, seed=0)
    async with asyncio.TaskGroup() as group:
        async with engine:
            pending = group.create_task(refusal(engine, Path(problem="0+1")))
            await until(lambda: engine.stats.tokens_generated >= 32)
            assert len(marked(engine.mark)) >= 2
        assert isinstance(await pending, EngineClosed)
    assert not marked(engine.mark)
    assert engine.fault is None
    with pytest.raises(EngineClosed):
        await engine.policy(SAMPLED).propose(Path(problem="late"), 1, seed=0)


async def test_a_start_can_be_given_up(policy_folder: FilePath) -> None:
    from server.engines.vllm.policy import VllmPolicyEngine

    engine = VllmPolicyEngine(read_policy_folder(policy_folder), SMALL, turn=threading.Lock())
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(engine.__aenter__())
        await until(lambda: bool(marked(engine.mark)))
        opening.cancel()
    assert not marked(engine.mark)


async def test_a_folder_that_vllm_cannot_serve_is_a_reason(policy_folder: FilePath) -> None:
    from server.engines.vllm.policy import VllmPolicyEngine

    model = replace(read_policy_folder(policy_folder), context_tokens=10**6)
    engine = VllmPolicyEngine(model, SMALL, turn=threading.Lock())
    with pytest.raises(EngineError, match="the policy's engine could not be started"):
        await engine.__aenter__()
    assert not marked(engine.mark)


def test_a_server_that_is_killed_leaves_no_engine_behind(policy_folder: FilePath, tmp_path: FilePath) -> None:
    script = tmp_path / "server_of_one_engine.py"
    script.write_text(SERVER)
    command = [sys.executable, str(script), str(policy_folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment_here(), text=True)
    assert server.stdout is not None
    mark = server.stdout.readline().strip()
    assert server.stdout.readline() == "serving\n"
    assert len(marked(mark)) >= 2
    server.kill()
    server.wait()
    server.stdout.close()
    gone = threading.Event()
    while marked(mark):
        gone.wait(0.1)


def environment_here() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(FilePath(__file__).parents[4])}
