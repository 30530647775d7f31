"""The compute loop: engines that share a thread, their failures and their end."""

import asyncio
import dataclasses
import threading
from collections import deque
from collections.abc import Sequence

import pytest

from search.protocols import Path
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.loop import Call, ComputeThread, EngineLoop, Lane, ThreadEngine, take_fitting
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


class Echo(EngineLoop[Call[int]]):
    """Answers every call with how many it has answered before."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0

    def step(self) -> None:
        while (call := self.take()) is not None:
            self.held.discard(call)
            call.answer(self.answered)
            self.answered += 1


async def test_small_calls_share_a_lane_and_large_ones_are_spread() -> None:
    lanes = [Lane(ComputeThread(threads=1), Echo()) for _ in range(2)]
    engine = ThreadEngine(lanes)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(engine.ask(Call[int](), sequences=sequences)) for sequences in (8, 8, 64, 8)]
        await asyncio.sleep(0)  # all have chosen a lane before one is answered
        assert [lane.sequences for lane in lanes] == [24, 64]
        async with engine:
            for call in asked:
                await call
    assert [lane.sequences for lane in lanes] == [0, 0]
    assert engine.stats.requests == 4


async def test_a_call_abandoned_before_its_step_is_counted() -> None:
    loop = Echo()
    engine = ThreadEngine([Lane(ComputeThread(threads=1), loop)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await engine.ask(Call[int]())
    assert loop.take() is not None
    assert len(loop.drop_abandoned()) == 1
    assert (engine.stats.requests, engine.stats.aborted, loop.has_work()) == (1, 1, False)


def test_an_answer_to_an_abandoned_call_is_dropped() -> None:
    call = Call[int]()
    call.future.cancel()
    call.answer(1)
    call.refuse(EngineClosed("closed"))
    assert call.is_abandoned


@pytest.mark.parametrize(("sizes", "taken"), [([3, 4, 5], [3, 4]), ([9, 1], [9]), ([], []), ([7], [7])])
def test_at_least_one_is_taken_and_no_more_than_fit(sizes: list[int], taken: list[int]) -> None:
    waiting = deque(sizes)
    assert take_fitting(waiting, lambda size: size, most=7) == taken
    assert list(waiting) == sizes[len(taken) :]


def test_another_rule_of_size_ends_a_batch_earlier() -> None:
    def padded(sizes: Sequence[int]) -> int:
        return len(sizes) * max(sizes)

    waiting = deque([1, 1, 4, 1])
    assert take_fitting(waiting, lambda size: size, most=7, size_of_all=padded) == [1, 1]
    assert list(waiting) == [4, 1]
