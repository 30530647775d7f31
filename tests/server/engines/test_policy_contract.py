# pyright: basic
"""The contract of every policy, run on each of them: first the part for fakes too, then the part for models only."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep, PathTooLong, Policy
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.rendering import END_OF_TEXT, PathTokens
from server.engines.torch.checkpoint import Checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAMPLED = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=48)
GREEDY = Sampling(temperature=0.0, max_step_tokens=24)
WILD = Sampling(temperature=1.5, max_step_tokens=60)
SUM = Path(problem="12+30")


def after(path: Path, candidate: Candidate) -> Path:
    output = "42" if candidate.stop is CandidateStop.END_OF_CODE else None
    step = PathStep(text=candidate.text, token_ids=candidate.token_ids, stop=candidate.stop, output=output)
    return Path(problem=path.problem, steps=(*path.steps, step))


async def propose_together(calls: Sequence[tuple[Policy, Path, int, int]]) -> list[Sequence[Candidate]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(policy.propose(path, n, seed=seed)) for policy, path, n, seed in calls]
    return [task.result() for task in tasks]


def assert_same(found: Sequence[Candidate], expected: Sequence[Candidate]) -> None:
    assert [(c.token_ids, c.text, c.stop) for c in found] == [(c.token_ids, c.text, c.stop) for c in expected]
    assert [c.logprob for c in found] == pytest.approx([c.logprob for c in expected], abs=1e-3)


@pytest.mark.parametrize("n", [1, 3, 8, 21])
async def test_a_proposal_has_n_candidates(view, n) -> None:
    assert len(await view(SAMPLED).propose(SUM, n, seed=5)) == n


async def test_the_same_arguments_give_the_same_candidates(view) -> None:
    first = await view(SAMPLED).propose(SUM, 6, seed=11)
    assert_same(await view(SAMPLED).propose(SUM, 6, seed=11), first)


async def test_another_seed_gives_other_candidates(view) -> None:
    one, two = [await view(SAMPLED).propose(SUM, 8, seed=seed) for seed in (11, 12)]
    assert [candidate.text for candidate in one] != [candidate.text for candidate in two]


async def test_a_candidate_can_be_continued(view) -> None:
    policy = view(SAMPLED)
    child = after(SUM, (await policy.propose(SUM, 1, seed=0))[0])
    assert len(await policy.propose(child, 4, seed=1)) == 4


async def test_proposals_at_once_are_those_made_one_by_one(view) -> None:
    policy = view(SAMPLED)
    child = after(SUM, (await policy.propose(SUM, 1, seed=0))[0])
    calls = [(policy, child if k % 2 else Path(problem="+".join(["1"] * (k + 1))), 1 + k % 5, k) for k in range(6)]
    alone = [await policy.propose(path, n, seed=seed) for _, path, n, seed in calls]
    for found, expected in zip(await propose_together(calls), alone, strict=True):
        assert_same(found, expected)


# Only models from here on.


async def test_samples_and_neighbouring_seeds_share_nothing(policy_engine: PolicyEngine) -> None:
    one, two = [await policy_engine.policy(SAMPLED).propose(SUM, 6, seed=seed) for seed in (11, 12)]
    assert len({candidate.token_ids for candidate in (*one, *two)}) == 12


async def test_seeds_may_have_63_bits(policy_engine: PolicyEngine) -> None:
    assert len(await policy_engine.policy(SAMPLED).propose(SUM, 3, seed=2**63 - 1)) == 3


async def test_views_that_draw_differently_share_a_batch(policy_engine: PolicyEngine) -> None:
    ways = [SAMPLED, GREEDY, WILD, replace(WILD, top_p=0.01), replace(GREEDY, max_step_tokens=3)]
    calls = [(policy_engine.policy(ways[k % 5]), Path(problem=f"{k}+1"), 1 + k % 3, k) for k in range(6)]
    alone = [await policy.propose(path, n, seed=seed) for policy, path, n, seed in calls]
    for found, expected in zip(await propose_together(calls), alone, strict=True):
        assert_same(found, expected)


async def test_greedy_candidates_are_all_alike_whatever_the_seed(policy_engine: PolicyEngine) -> None:
    three, one = [await policy_engine.policy(GREEDY).propose(SUM, n, seed=n) for n in (3, 1)]
    assert len(three) == 3
    assert {candidate.token_ids for candidate in (*three, *one)} == {one[0].token_ids}


async def test_the_smallest_nucleus_is_the_greedy_choice(policy_engine: PolicyEngine) -> None:
    narrow = Sampling(temperature=1.0, top_p=1e-6, max_step_tokens=24)
    drawn = await policy_engine.policy(narrow).propose(SUM, 4, seed=1)
    (likeliest,) = await policy_engine.policy(GREEDY).propose(SUM, 1, seed=1)
    assert {candidate.token_ids for candidate in drawn} == {likeliest.token_ids}


async def test_the_stop_token_says_why_a_candidate_ended(policy_engine: PolicyEngine, policy_checkpoint) -> None:
    tokenizer = policy_checkpoint.tokenizer
    candidates = await policy_engine.policy(WILD).propose(SUM, 96, seed=3)
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


async def test_the_text_is_the_tokens_without_the_stop_token(policy_engine: PolicyEngine, policy_checkpoint) -> None:
    for candidate in await policy_engine.policy(WILD).propose(SUM, 32, seed=4):
        assert candidate.text == policy_checkpoint.tokenizer.decode_step(candidate.token_ids)
        assert not candidate.text.endswith(("<end_of_step>", "<end_of_code>", "<end_of_answer>", END_OF_TEXT))


async def test_a_candidate_is_cut_off_at_the_token_limit(policy_engine: PolicyEngine) -> None:
    (candidate,) = await policy_engine.policy(replace(GREEDY, max_step_tokens=3)).propose(SUM, 1, seed=0)
    assert len(candidate.token_ids) == 3
    assert candidate.stop is CandidateStop.LENGTH


async def test_a_candidate_never_leaves_the_context(policy_engine: PolicyEngine, policy_checkpoint) -> None:
    path = filled_path(policy_checkpoint, policy_engine.context_tokens - 5)
    candidates = await policy_engine.policy(SAMPLED).propose(path, 8, seed=0)
    assert max(len(candidate.token_ids) for candidate in candidates) <= 5


async def test_a_path_without_room_for_a_step_is_refused(policy_engine: PolicyEngine, policy_checkpoint) -> None:
    with pytest.raises(PathTooLong):
        await policy_engine.policy(SAMPLED).propose(
            filled_path(policy_checkpoint, policy_engine.context_tokens), 1, seed=0
        )
    assert len(await policy_engine.policy(SAMPLED).propose(SUM, 1, seed=0)) == 1


def filled_path(checkpoint: Checkpoint, length: int) -> Path:
    used = len(PathTokens(checkpoint.tokenizer).token_ids(Path(problem="")))
    stop = checkpoint.tokenizer.special_ids["<end_of_step>"]
    filler = PathStep(text="", token_ids=(99,) * (length - used - 1) + (stop,), stop=CandidateStop.END_OF_STEP)
    return Path(problem="", steps=(filler,))


async def test_asking_for_no_candidates_is_refused(policy_engine: PolicyEngine) -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        await policy_engine.policy(SAMPLED).propose(SUM, 0, seed=0)


async def test_tokens_of_another_model_are_refused(policy_engine: PolicyEngine) -> None:
    foreign = PathStep(text="", token_ids=(10**6,), stop=CandidateStop.END_OF_STEP)
    with pytest.raises(ValueError, match="another model wrote it"):
        await policy_engine.policy(SAMPLED).propose(Path(problem="1+1", steps=(foreign,)), 1, seed=0)


async def test_candidates_are_likely_under_the_model(
    policy_engine: PolicyEngine, policy_folder, policy_checkpoint: Checkpoint
) -> None:
    import transformers

    model = transformers.Qwen2ForCausalLM.from_pretrained(policy_folder, dtype=torch.float32).eval()
    policy = policy_engine.policy(SAMPLED)
    path = after(SUM, (await policy.propose(SUM, 1, seed=1))[0])
    candidates = await policy.propose(path, 4, seed=2)
    prefix = PathTokens(policy_checkpoint.tokenizer).token_ids(path)
    for candidate in candidates:
        with torch.inference_mode():
            logits = model(torch.tensor([[*prefix, *candidate.token_ids]])).logits[0]
        own = logits.log_softmax(-1)[len(prefix) - 1 : -1].gather(1, torch.tensor(candidate.token_ids).unsqueeze(1))
        assert candidate.logprob == pytest.approx(own.sum().item(), abs=1e-3)


async def test_a_cancelled_proposal_raises_and_the_engine_goes_on(policy_engine: PolicyEngine) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await policy_engine.policy(replace(GREEDY, max_step_tokens=900)).propose(SUM, 8, seed=0)
    assert len(await policy_engine.policy(SAMPLED).propose(SUM, 2, seed=0)) == 2


async def test_an_engine_says_what_it_serves(policy_engine: PolicyEngine, policy_checkpoint: Checkpoint) -> None:
    assert policy_engine.model_id
    assert policy_engine.context_tokens == policy_checkpoint.shape.context_tokens
    assert policy_engine.prompt_tokens("1+2") == len(
        PathTokens(policy_checkpoint.tokenizer).token_ids(Path(problem="1+2"))
    )
    assert policy_engine.fault is None
