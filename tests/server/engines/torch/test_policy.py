# pyright: basic
"""The torch policy: batching across searches, aborts and limits."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest
import torch

from search.protocols import Path
from server.engines.protocols import Sampling
from server.engines.torch.checkpoint import Checkpoint, load_policy
from server.engines.torch.policy import DecodeBatch
from tests.server.engines.built import torch_policy
from tests.server.engines.torch.endless import ENDLESS, until_generated
from tests.server.engines.torch.reference import Reference, tokens
from tests.server.engines.waiting import until


async def test_concurrent_searches_share_forward_passes(policy_checkpoint: Checkpoint) -> None:
    ways = [Sampling(temperature=temperature, max_step_tokens=24) for temperature in (0.0, 0.9)]
    paths = [Path(problem=f"What is {k} + {k}?") for k in range(16)]
    async with torch_policy(policy_checkpoint) as one_by_one:
        for k, path in enumerate(paths):
            await one_by_one.policy(ways[k % 2]).propose(path, 1, seed=1)
    async with torch_policy(policy_checkpoint) as together, asyncio.TaskGroup() as group:
        for k, path in enumerate(paths):
            group.create_task(together.policy(ways[k % 2]).propose(path, 1, seed=1))
    assert together.stats.tokens_generated == one_by_one.stats.tokens_generated
    assert together.stats.forward_passes * 4 < one_by_one.stats.forward_passes


async def test_a_request_joins_a_running_batch_and_leaves_before_it(endless_checkpoint: Checkpoint) -> None:
    async with torch_policy(endless_checkpoint) as policy, asyncio.TaskGroup() as group:
        long = group.create_task(policy.policy(ENDLESS).propose(Path(problem="long"), 1, seed=0))
        await until_generated(policy, 5)
        short = Path(problem="1 " * 330)
        room = endless_checkpoint.shape.context_tokens - len(policy.step_format.token_ids(short))
        assert 0 < room < 400
        (candidate,) = await policy.policy(ENDLESS).propose(short, 1, seed=0)
        assert len(candidate.token_ids) == room
        assert not long.done()
        long.cancel()


async def test_at_most_one_token_is_generated_after_an_abort(endless_checkpoint: Checkpoint) -> None:
    async with torch_policy(endless_checkpoint) as policy:
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
    async with torch_policy(endless_checkpoint, max_batch=2) as policy:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await policy.policy(ENDLESS).propose(Path(problem="long"), 100, seed=0)
        (other,) = await policy.policy(ENDLESS).propose(Path(problem="1 " * 330), 1, seed=0)
        assert other.token_ids


async def test_an_engine_can_be_used_from_another_event_loop(policy_checkpoint: Checkpoint) -> None:
    async with torch_policy(policy_checkpoint) as engine:
        policy = engine.policy(Sampling(temperature=0.9, max_step_tokens=8))
        here = await policy.propose(Path(problem="p"), 2, seed=1)
        there = await asyncio.to_thread(lambda: asyncio.run(policy.propose(Path(problem="p"), 2, seed=1)))
    assert [c.token_ids for c in there] == [c.token_ids for c in here]


def test_an_empty_batch_is_refused(policy_checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="max_batch >= 1"):
        torch_policy(policy_checkpoint, max_batch=0)


async def test_more_samples_than_the_batch_holds_take_turns(policy_checkpoint: Checkpoint) -> None:
    sampling, path = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48), Path(problem="What is 3 times 4?")
    async with (
        torch_policy(policy_checkpoint, max_batch=4) as small,
        torch_policy(policy_checkpoint) as large,
    ):
        few = await small.policy(sampling).propose(path, 21, seed=5)
        all_at_once = await large.policy(sampling).propose(path, 21, seed=5)
    assert [candidate.token_ids for candidate in few] == [candidate.token_ids for candidate in all_at_once]
    assert small.stats.forward_passes > large.stats.forward_passes


async def test_candidates_do_not_depend_on_what_an_engine_did_before(policy_checkpoint: Checkpoint) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48)
    paths = [Path(problem=f"Problem {k}" * (k + 1)) for k in range(12)]
    async with torch_policy(policy_checkpoint) as used:
        await used.policy(sampling).propose(paths[-1], 5, seed=99)
        alone = [await used.policy(sampling).propose(path, 2, seed=1) for path in paths]
    async with torch_policy(policy_checkpoint) as fresh, asyncio.TaskGroup() as group:
        tasks = [group.create_task(fresh.policy(sampling).propose(path, 2, seed=1)) for path in paths]
    for task, expected in zip(tasks, alone, strict=True):
        assert [c.token_ids for c in task.result()] == [c.token_ids for c in expected]


async def test_tokens_beyond_the_tokenizer_are_never_sampled(
    make_folder: Callable[..., FilePath], tmp_path: FilePath
) -> None:
    checkpoint = load_policy(make_folder(tmp_path / "padded", "Qwen2ForCausalLM", seed=1, vocab_size=400))
    async with torch_policy(checkpoint) as engine:
        candidates = await engine.policy(Sampling(temperature=2.0)).propose(Path(problem="p"), 16, seed=0)
    assert max(token for candidate in candidates for token in candidate.token_ids) < checkpoint.tokenizer.size < 400


@torch.inference_mode()
def test_rows_that_come_and_go_keep_their_own_context(policy_folder: FilePath) -> None:
    reference = Reference(policy_folder)
    rng = random.Random(0)
    batch = DecodeBatch(reference.model)
    running: dict[object, tuple[int, ...]] = {}
    for turn in range(40):
        if turn % 3 == 0:
            prompt = tokens(rng.randrange(1, 90), seed=100 + turn)
            (node,) = reference.encoder.encode([(prompt,)])
            first = tokens(rng.randrange(1, 9), seed=200 + turn)
            rows = batch.join(node, first)
            running.update((row, (*prompt, token)) for row, token in zip(rows, first, strict=True))
        rows, hidden = batch.step()
        logits = reference.logits(hidden)
        assert set(rows) == set(running)
        checked = rng.randrange(len(rows))
        expected = reference.expected(running[rows[checked]])
        torch.testing.assert_close(logits[checked], expected, atol=1e-4, rtol=0)
        for row in rows:
            row.last_token = rng.randrange(290)
            running[row] = (*running[row], row.last_token)
        gone = rng.sample(rows, rng.randrange(0, max(1, len(rows) // 2)))
        batch.leave(gone)
        for row in gone:
            del running[row]
    assert len(batch) == len(running)
