# pyright: basic
"""What every policy engine must do, run on each of them over the same tiny model."""

import asyncio
from collections.abc import Sequence

import pytest
import torch

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep, PathTooLong, Policy
from server.engines.checkpoint import Checkpoint
from server.engines.rendering import END_OF_TEXT, PathTokens

SAMPLED = {"temperature": 0.9, "top_p": 0.95, "max_step_tokens": 48}
GREEDY = {"temperature": 0.0, "top_p": 1.0, "max_step_tokens": 24}


def after(path: Path, candidate: Candidate) -> Path:
    output = "42" if candidate.stop is CandidateStop.END_OF_CODE else None
    step = PathStep(text=candidate.text, token_ids=candidate.token_ids, stop=candidate.stop, output=output)
    return Path(problem=path.problem, steps=(*path.steps, step))


async def propose_together(policy: Policy, calls: Sequence[tuple[Path, int, int]]) -> list[Sequence[Candidate]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(policy.propose(path, n, seed=seed)) for path, n, seed in calls]
    return [task.result() for task in tasks]


def assert_same(found: Sequence[Candidate], expected: Sequence[Candidate]) -> None:
    assert [(c.token_ids, c.text, c.stop) for c in found] == [(c.token_ids, c.text, c.stop) for c in expected]
    assert [c.logprob for c in found] == pytest.approx([c.logprob for c in expected], abs=1e-3)


@pytest.mark.parametrize("n", [1, 3, 8, 21])
async def test_a_proposal_has_n_candidates(open_policy, n) -> None:
    async with open_policy(**SAMPLED) as policy:
        assert len(await policy.propose(Path(problem="1 + 1?"), n, seed=5)) == n


async def test_more_samples_than_the_batch_holds_take_turns(open_policy) -> None:
    async with open_policy(**SAMPLED, max_batch=4) as small, open_policy(**SAMPLED) as large:
        path = Path(problem="What is 3 times 4?")
        assert_same(await small.propose(path, 21, seed=5), await large.propose(path, 21, seed=5))


async def test_the_same_arguments_give_the_same_candidates(open_policy) -> None:
    path = Path(problem="What is 3 times 4?")
    async with open_policy(**SAMPLED) as policy:
        first = await policy.propose(path, 6, seed=11)
        again = await policy.propose(path, 6, seed=11)
    async with open_policy(**SAMPLED) as policy:
        elsewhere = await policy.propose(path, 6, seed=11)
    assert_same(again, first)
    assert_same(elsewhere, first)


async def test_samples_and_seeds_differ(open_policy) -> None:
    path = Path(problem="What is 3 times 4?")
    async with open_policy(**SAMPLED) as policy:
        one, two = await policy.propose(path, 6, seed=11), await policy.propose(path, 6, seed=12)
    assert len({candidate.token_ids for candidate in (*one, *two)}) == 12


@pytest.mark.parametrize("options", [SAMPLED, GREEDY])
async def test_candidates_do_not_depend_on_what_else_is_in_the_batch(open_policy, options) -> None:
    async with open_policy(**options) as policy:
        root = Path(problem="What is 12 + 30?")
        child = after(root, (await policy.propose(root, 1, seed=0))[0])
        calls = [(child if k % 2 else Path(problem=f"Problem {k}" * (k + 1)), 1 + k % 5, k) for k in range(32)]
        alone = [await policy.propose(path, n, seed=seed) for path, n, seed in calls]
    async with open_policy(**options) as policy:
        together = await propose_together(policy, calls)
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


async def test_greedy_candidates_are_all_alike(open_policy) -> None:
    async with open_policy(**GREEDY) as policy:
        candidates = await policy.propose(Path(problem="1 + 1?"), 3, seed=0)
    assert len({candidate.token_ids for candidate in candidates}) == 1


async def test_the_stop_token_says_why_a_candidate_ended(open_policy, policy_checkpoint: Checkpoint) -> None:
    tokenizer = policy_checkpoint.tokenizer
    async with open_policy(temperature=1.5, top_p=1.0, max_step_tokens=60) as policy:
        candidates = await policy.propose(Path(problem="1 + 1?"), 64, seed=3)
    for candidate in candidates:
        *inner, last = candidate.token_ids
        assert not tokenizer.stops.keys() & set(inner)
        if len(candidate.token_ids) < 60:
            assert candidate.stop is tokenizer.stops[last]
        else:
            assert candidate.stop is tokenizer.stops.get(last, CandidateStop.LENGTH)
    assert {candidate.stop for candidate in candidates} == set(CandidateStop)
    ended_early = [c for c in candidates if c.token_ids[-1] == tokenizer.special_ids[END_OF_TEXT]]
    assert ended_early
    assert {candidate.stop for candidate in ended_early} == {CandidateStop.LENGTH}


async def test_the_text_is_the_tokens_without_the_stop_token(open_policy, policy_checkpoint: Checkpoint) -> None:
    tokenizer = policy_checkpoint.tokenizer
    async with open_policy(temperature=1.5, top_p=1.0, max_step_tokens=60) as policy:
        candidates = await policy.propose(Path(problem="1 + 1?"), 32, seed=4)
    for candidate in candidates:
        assert candidate.text == tokenizer.decode_step(candidate.token_ids)
        assert not candidate.text.endswith(("<end_of_step>", "<end_of_code>", "<end_of_answer>", END_OF_TEXT))


async def test_a_candidate_is_cut_off_at_the_token_limit(open_policy) -> None:
    async with open_policy(temperature=0.0, top_p=1.0, max_step_tokens=3) as policy:
        (candidate,) = await policy.propose(Path(problem="1 + 1?"), 1, seed=0)
    assert len(candidate.token_ids) == 3
    assert candidate.stop is CandidateStop.LENGTH


async def test_a_candidate_never_leaves_the_context(open_policy, policy_checkpoint: Checkpoint) -> None:
    context = policy_checkpoint.shape.context_tokens
    path = filled_path(policy_checkpoint, context - 5)
    async with open_policy(temperature=0.9, top_p=1.0) as policy:
        candidates = await policy.propose(path, 8, seed=0)
    assert max(len(candidate.token_ids) for candidate in candidates) <= 5


async def test_a_path_without_room_for_a_step_is_refused(open_policy, policy_checkpoint: Checkpoint) -> None:
    path = filled_path(policy_checkpoint, policy_checkpoint.shape.context_tokens)
    async with open_policy(**SAMPLED) as policy:
        with pytest.raises(PathTooLong):
            await policy.propose(path, 1, seed=0)
        assert len(await policy.propose(Path(problem="1 + 1?"), 1, seed=0)) == 1


def filled_path(checkpoint: Checkpoint, length: int) -> Path:
    used = len(PathTokens(checkpoint.tokenizer).token_ids(Path(problem="")))
    stop = checkpoint.tokenizer.special_ids["<end_of_step>"]
    filler = PathStep(text="", token_ids=(99,) * (length - used - 1) + (stop,), stop=CandidateStop.END_OF_STEP)
    return Path(problem="", steps=(filler,))


async def test_candidates_are_likely_under_the_model(open_policy, policy_folder, policy_checkpoint) -> None:
    import transformers

    model = transformers.Qwen2ForCausalLM.from_pretrained(policy_folder, dtype=torch.float32).eval()
    root = Path(problem="What is 12 + 30?")
    async with open_policy(**SAMPLED) as policy:
        path = after(root, (await policy.propose(root, 1, seed=1))[0])
        candidates = await policy.propose(path, 4, seed=2)
    prefix = PathTokens(policy_checkpoint.tokenizer).token_ids(path)
    for candidate in candidates:
        with torch.inference_mode():
            logits = model(torch.tensor([[*prefix, *candidate.token_ids]])).logits[0]
        own = logits.log_softmax(-1)[len(prefix) - 1 : -1].gather(1, torch.tensor(candidate.token_ids).unsqueeze(1))
        assert candidate.logprob == pytest.approx(own.sum().item(), abs=1e-3)


async def test_a_cancelled_proposal_raises_and_the_engine_goes_on(open_policy) -> None:
    path = Path(problem="What is 12 + 30?")
    async with open_policy(temperature=0.0, top_p=1.0, max_step_tokens=900) as policy:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await policy.propose(path, 8, seed=0)
    async with open_policy(**SAMPLED) as policy:
        assert len(await policy.propose(path, 2, seed=0)) == 2
