"""The compute loop: engines that share a thread, their failures and their end."""

import asyncio
import dataclasses
import threading

import pytest

from search.protocols import Path
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.ppm import torch_scorer
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.built import torch_policy
from tests.server.engines.torch.endless import ENDLESS, until_generated


def compute_threads() -> set[threading.Thread]:
    """Engines of other tests may be open too."""
    return {thread for thread in threading.enumerate() if thread.name == "engine-compute"}


async def refusal(policy: PolicyEngine) -> EngineError | None:
    try:
        await policy.policy(ENDLESS).propose(Path(problem="long"), 2, seed=0)
    except EngineError as error:
        return error
    return None


async def test_closing_refuses_what_is_pending_and_ends_the_thread(endless_checkpoint: Checkpoint) -> None:
    before = compute_threads()
    policy = torch_policy(endless_checkpoint)
    async with asyncio.TaskGroup() as group:
        async with policy:
            task = group.create_task(refusal(policy))
            await until_generated(policy, 5)
            assert len(compute_threads() - before) == 1
        assert isinstance(await task, EngineClosed)
    assert compute_threads() == before
    with pytest.raises(EngineClosed):
        await policy.policy(ENDLESS).propose(Path(problem="late"), 1, seed=0)
    assert policy.fault is None


async def test_a_failing_loop_fails_its_own_requests_only(
    policy_checkpoint: Checkpoint, ppm_checkpoint: Checkpoint, runtime: TorchRuntime
) -> None:
    before = compute_threads()
    broken = dataclasses.replace(policy_checkpoint, head=policy_checkpoint.head[:, :-1])
    async with (
        torch_policy(broken, runtime=runtime) as policy,
        torch_scorer(ppm_checkpoint, runtime=runtime) as scorer,
    ):
        assert policy.fault is None
        async with asyncio.TaskGroup() as group:
            refusals = [group.create_task(refusal(policy)) for _ in range(3)]
        for task in refusals:
            assert isinstance(task.result(), EngineFailed)
            assert "RuntimeError" in str(task.result())
        assert "RuntimeError" in (policy.fault or "")
        with pytest.raises(EngineFailed):
            await policy.policy(ENDLESS).propose(Path(problem="p"), 2, seed=0)
        assert scorer.fault is None
        assert len(await scorer.score([Path(problem="p")])) == 1
    assert compute_threads() == before


async def test_two_engines_on_one_thread_do_not_change_each_other(
    policy_checkpoint: Checkpoint, ppm_checkpoint: Checkpoint, runtime: TorchRuntime
) -> None:
    paths = [Path(problem=f"What is {k}?") for k in range(6)]
    async with (
        torch_policy(policy_checkpoint, runtime=runtime) as engine,
        torch_scorer(ppm_checkpoint, runtime=runtime) as scorer,
    ):
        policy = engine.policy(Sampling(temperature=0.9, top_p=0.95, max_step_tokens=30))
        alone = [await policy.propose(path, 3, seed=1) for path in paths], await scorer.score(paths)
        async with asyncio.TaskGroup() as group:
            proposals = [group.create_task(policy.propose(path, 3, seed=1)) for path in paths]
            scores = group.create_task(scorer.score(paths))
    for task, expected in zip(proposals, alone[0], strict=True):
        assert [c.token_ids for c in task.result()] == [c.token_ids for c in expected]
    assert list(scores.result()) == pytest.approx(list(alone[1]), abs=1e-4)
