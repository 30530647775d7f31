"""The torch engines: batching across searches, aborts, failures and their end."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest

from search.protocols import Path
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.protocols import Sampling
from server.engines.torch.checkpoint import Checkpoint, load_policy
from server.engines.torch.compute import ComputeThread
from server.engines.torch.matrices import Precision
from server.engines.torch.policy import TorchPolicyEngine
from server.engines.torch.ppm import TorchScorer
from server.engines.torch.runtime import TorchRuntime

ENDLESS = Sampling(temperature=0.0, max_step_tokens=900)
"""With the endless checkpoint: a sequence ends at the limit or at the end of the context."""


async def until(condition: Callable[[], bool]) -> None:
    """Yield to the other tasks until the compute thread has got somewhere: it tells nobody in between."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)


async def until_generated(policy: TorchPolicyEngine, tokens: int) -> None:
    await until(lambda: policy.stats.tokens_generated >= tokens)


async def test_concurrent_searches_share_forward_passes(policy_checkpoint: Checkpoint) -> None:
    ways = [Sampling(temperature=temperature, max_step_tokens=24) for temperature in (0.0, 0.9)]
    paths = [Path(problem=f"What is {k} + {k}?") for k in range(16)]
    async with TorchPolicyEngine(policy_checkpoint) as one_by_one:
        for k, path in enumerate(paths):
            await one_by_one.policy(ways[k % 2]).propose(path, 1, seed=1)
    async with TorchPolicyEngine(policy_checkpoint) as together, asyncio.TaskGroup() as group:
        for k, path in enumerate(paths):
            group.create_task(together.policy(ways[k % 2]).propose(path, 1, seed=1))
    assert together.stats.tokens_generated == one_by_one.stats.tokens_generated
    assert together.stats.forward_passes * 4 < one_by_one.stats.forward_passes


async def test_concurrent_scores_share_forward_passes(ppm_checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
    scorer = TorchScorer(ppm_checkpoint, runtime=runtime)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(scorer.score([Path(problem=f"What is {k} + {k}?")])) for k in range(16)]
        await asyncio.sleep(0)  # all have asked before the compute thread begins
        async with scorer:
            for scores in asked:
                await scores
    assert scorer.stats.forward_passes <= 2
    assert scorer.stats.batch_size_sum == 16


async def test_a_request_joins_a_running_batch_and_leaves_before_it(endless_checkpoint: Checkpoint) -> None:
    async with TorchPolicyEngine(endless_checkpoint) as policy, asyncio.TaskGroup() as group:
        long = group.create_task(policy.policy(ENDLESS).propose(Path(problem="long"), 1, seed=0))
        await until_generated(policy, 5)
        short = Path(problem="1 " * 330)
        room = endless_checkpoint.shape.context_tokens - len(policy.path_tokens.token_ids(short))
        assert 0 < room < 400
        (candidate,) = await policy.policy(ENDLESS).propose(short, 1, seed=0)
        assert len(candidate.token_ids) == room
        assert not long.done()
        long.cancel()


async def test_at_most_one_token_is_generated_after_an_abort(endless_checkpoint: Checkpoint) -> None:
    async with TorchPolicyEngine(endless_checkpoint) as policy:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(policy.policy(ENDLESS).propose(Path(problem="long"), 4, seed=0))
            await until_generated(policy, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            at_abort = policy.stats.tokens_generated
        await until(lambda: policy.stats.aborted == 1)
        assert at_abort <= policy.stats.tokens_aborted <= at_abort + 4
        (other,) = await policy.policy(ENDLESS).propose(Path(problem="1 " * 330), 1, seed=0)
        assert policy.stats.tokens_generated - at_abort - len(other.token_ids) <= 4


async def test_a_deadline_aborts_waiting_and_running_samples(endless_checkpoint: Checkpoint) -> None:
    async with TorchPolicyEngine(endless_checkpoint, max_batch=2) as policy:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await policy.policy(ENDLESS).propose(Path(problem="long"), 100, seed=0)
        (other,) = await policy.policy(ENDLESS).propose(Path(problem="1 " * 330), 1, seed=0)
        assert other.token_ids


async def test_closing_refuses_what_is_pending_and_ends_the_thread(endless_checkpoint: Checkpoint) -> None:
    before = compute_threads()
    policy = TorchPolicyEngine(endless_checkpoint)
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


def compute_threads() -> set[threading.Thread]:
    """Engines of other tests may be open too."""
    return {thread for thread in threading.enumerate() if thread.name == "engine-compute"}


async def refusal(policy: TorchPolicyEngine) -> EngineError | None:
    try:
        await policy.policy(ENDLESS).propose(Path(problem="long"), 2, seed=0)
    except EngineError as error:
        return error
    return None


async def test_a_failure_in_the_loop_fails_all_requests_and_leaves_the_other_engine_alone(
    policy_checkpoint: Checkpoint, ppm_checkpoint: Checkpoint, runtime: TorchRuntime
) -> None:
    broken = dataclasses.replace(policy_checkpoint, head=policy_checkpoint.head[:, :-1])
    async with (
        TorchPolicyEngine(broken, runtime=runtime) as policy,
        TorchScorer(ppm_checkpoint, runtime=runtime) as scorer,
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
    assert not runtime.compute.is_running


async def test_two_engines_on_one_thread_do_not_change_each_other(
    policy_checkpoint: Checkpoint, ppm_checkpoint: Checkpoint, runtime: TorchRuntime
) -> None:
    paths = [Path(problem=f"What is {k}?") for k in range(6)]
    async with (
        TorchPolicyEngine(policy_checkpoint, runtime=runtime) as engine,
        TorchScorer(ppm_checkpoint, runtime=runtime) as scorer,
    ):
        policy = engine.policy(Sampling(temperature=0.9, top_p=0.95, max_step_tokens=30))
        alone = [await policy.propose(path, 3, seed=1) for path in paths], await scorer.score(paths)
        async with asyncio.TaskGroup() as group:
            proposals = [group.create_task(policy.propose(path, 3, seed=1)) for path in paths]
            scores = group.create_task(scorer.score(paths))
    for task, expected in zip(proposals, alone[0], strict=True):
        assert [c.token_ids for c in task.result()] == [c.token_ids for c in expected]
    assert list(scores.result()) == pytest.approx(list(alone[1]), abs=1e-4)


async def test_bfloat16_scores_stay_close(ppm_checkpoint: Checkpoint) -> None:
    paths = [Path(problem=f"What is {k}?") for k in range(6)]
    scores: list[list[float]] = []
    for precision in Precision:
        runtime = TorchRuntime(compute=ComputeThread(threads=1), precision=precision)
        async with TorchScorer(ppm_checkpoint, runtime=runtime) as scorer:
            scores.append(list(await scorer.score(paths)))
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


async def test_an_engine_can_be_used_from_another_event_loop(policy_checkpoint: Checkpoint) -> None:
    async with TorchPolicyEngine(policy_checkpoint) as engine:
        policy = engine.policy(Sampling(temperature=0.9, max_step_tokens=8))
        here = await policy.propose(Path(problem="p"), 2, seed=1)
        there = await asyncio.to_thread(lambda: asyncio.run(policy.propose(Path(problem="p"), 2, seed=1)))
    assert [c.token_ids for c in there] == [c.token_ids for c in here]


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_step_tokens": 0}])
def test_impossible_sampling_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected temperature"):
        Sampling(**options)


def test_an_empty_batch_is_refused(policy_checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="max_batch >= 1"):
        TorchPolicyEngine(policy_checkpoint, max_batch=0)


async def test_more_samples_than_the_batch_holds_take_turns(policy_checkpoint: Checkpoint) -> None:
    sampling, path = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48), Path(problem="What is 3 times 4?")
    async with (
        TorchPolicyEngine(policy_checkpoint, max_batch=4) as small,
        TorchPolicyEngine(policy_checkpoint) as large,
    ):
        few = await small.policy(sampling).propose(path, 21, seed=5)
        all_at_once = await large.policy(sampling).propose(path, 21, seed=5)
    assert [candidate.token_ids for candidate in few] == [candidate.token_ids for candidate in all_at_once]
    assert small.stats.forward_passes > large.stats.forward_passes


async def test_candidates_do_not_depend_on_what_an_engine_did_before(policy_checkpoint: Checkpoint) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48)
    paths = [Path(problem=f"Problem {k}" * (k + 1)) for k in range(12)]
    async with TorchPolicyEngine(policy_checkpoint) as used:
        await used.policy(sampling).propose(paths[-1], 5, seed=99)
        alone = [await used.policy(sampling).propose(path, 2, seed=1) for path in paths]
    async with TorchPolicyEngine(policy_checkpoint) as fresh, asyncio.TaskGroup() as group:
        tasks = [group.create_task(fresh.policy(sampling).propose(path, 2, seed=1)) for path in paths]
    for task, expected in zip(tasks, alone, strict=True):
        assert [c.token_ids for c in task.result()] == [c.token_ids for c in expected]


async def test_tokens_beyond_the_tokenizer_are_never_sampled(
    make_folder: Callable[..., FilePath], tmp_path: FilePath
) -> None:
    checkpoint = load_policy(make_folder(tmp_path / "padded", "Qwen2ForCausalLM", seed=1, vocab_size=400))
    async with TorchPolicyEngine(checkpoint) as engine:
        candidates = await engine.policy(Sampling(temperature=2.0)).propose(Path(problem="p"), 16, seed=0)
    assert max(token for candidate in candidates for token in candidate.token_ids) < checkpoint.tokenizer.size < 400
