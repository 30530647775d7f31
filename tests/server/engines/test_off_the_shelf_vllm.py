"""Off-the-shelf models on vLLM, beside the server and on servers elsewhere: the steps and scores of transformers."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path as FilePath

import pytest
import pytest_asyncio

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.fewshot.format import FewShotFormat, read_format
from server.engines.model_folder import ModelFolder
from server.engines.policy import CompletionRequest, PolicyEngine
from server.engines.prm.rendering import PrmTokens
from server.engines.protocols import Sampling, ScorerEngine
from server.engines.torch.runtime import TorchRuntime
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from tests.server.engines.built import (
    few_shot_policy,
    prm_scorer,
    remote_policy_of,
    remote_scorer_of,
    vllm_policy_of,
    vllm_scorer_of,
)
from tests.server.engines.remote.vllm_server import vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="module")]

PATH = Path(problem="What is 12 + 30?")
GREEDY = Sampling(temperature=0.0, max_step_tokens=24)
SHARE = MemoryShare(gpu_fraction=0.2, cpu_bytes=200_000_000, dtype="float32")
OPTIONS = VllmOptions(policy=SHARE, ppm=SHARE)
PLACES = ["beside the server", "elsewhere"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PLACES)
async def policy(request: pytest.FixtureRequest, chat_folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    if request.param == PLACES[0]:
        async with vllm_policy_of(chat_folder, OPTIONS) as engine:
            yield engine
        return
    with vllm_server(chat_folder, name="chat", is_pooling=False, dtype="float32") as address:
        async with remote_policy_of(address, chat_folder) as engine:
            yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PLACES)
async def scorer(request: pytest.FixtureRequest, prm_folder: FilePath) -> AsyncGenerator[ScorerEngine]:
    if request.param == PLACES[0]:
        async with vllm_scorer_of(prm_folder, OPTIONS, reads_policy_tokens=False) as engine:
            yield engine
        return
    # The published model needs no such argument: vLLM knows the number of its separator.
    separator = {"step_tag_id": PrmTokens(prm_folder / "tokenizer.json").separator_id}
    arguments = ["--pooler-config", json.dumps(separator)]
    with vllm_server(prm_folder, name="prm", is_pooling=True, dtype="float32", arguments=arguments) as address:
        async with remote_scorer_of(address, prm_folder, reads_policy_tokens=False) as engine:
            yield engine


async def test_few_shot_steps_are_those_of_transformers(
    policy: PolicyEngine, chat_folder: FilePath, one_thread: TorchRuntime
) -> None:
    async with few_shot_policy(chat_folder, one_thread) as local:
        (expected,) = await local.policy(GREEDY).propose(PATH, 1, seed=1)
    (found,) = await policy.policy(GREEDY).propose(PATH, 1, seed=1)
    assert (found.token_ids, found.text, found.stop) == (expected.token_ids, expected.text, expected.stop)
    # vLLM gives the padding of the vocabulary its share of the probability: of a random model, 6 in 326.
    assert found.logprob == pytest.approx(expected.logprob, abs=24 * 0.04)


async def test_few_shot_samples_differ(policy: PolicyEngine) -> None:
    many = await policy.policy(Sampling(temperature=1.0, max_step_tokens=24)).propose(PATH, 8, seed=1)
    assert len({candidate.token_ids for candidate in many}) == 8
    again = await policy.policy(Sampling(temperature=1.0, max_step_tokens=24)).propose(PATH, 8, seed=1)
    assert [candidate.token_ids for candidate in again] == [candidate.token_ids for candidate in many]


async def test_a_stop_string_ends_a_completion_and_is_kept(policy: PolicyEngine, chat_folder: FilePath) -> None:
    tokens = read_format(ModelFolder(chat_folder))
    whole = await complete(policy, tokens)
    stop = next(text for text in map(tokens.decode, ([token] for token in whole[4:])) if text.isascii())
    found = await complete(policy, tokens, "<end_of_step>", stop)
    assert found == whole[: len(found)]
    assert stop in tokens.decode(found)
    assert stop not in tokens.decode(found[:-1])


async def complete(policy: PolicyEngine, tokens: FewShotFormat, *stop_strings: str) -> tuple[int, ...]:
    request = CompletionRequest(
        segments=tokens.segments(PATH), n=1, seed=1, sampling=GREEDY, max_tokens=24, stop_strings=stop_strings
    )
    (completion,) = await policy.completer.complete(request)
    return completion.token_ids


async def test_process_reward_scores_are_those_of_transformers(
    scorer: ScorerEngine, prm_folder: FilePath, one_thread: TorchRuntime
) -> None:
    steps = (
        PathStep(text="\n# Add\ntotal = 12 + 30\n", token_ids=(40,), stop=CandidateStop.END_OF_STEP),
        PathStep(text="\nprint(total)\n", token_ids=(50,), stop=CandidateStop.END_OF_CODE, output="42"),
        PathStep(text="\n<answer>It is \\boxed{42}.", token_ids=(60,), stop=CandidateStop.END_OF_ANSWER),
    )
    paths = [*(Path(problem=PATH.problem, steps=steps[:length]) for length in range(4)), Path(problem="", steps=steps)]
    async with prm_scorer(prm_folder, one_thread, reads_policy_tokens=False) as local:
        expected = list(await local.score(paths))
    # Twice: prefixes that vLLM might find again must not change a score.
    for _ in range(2):
        assert list(await scorer.score(paths)) == pytest.approx(expected, abs=1e-3)
    assert list(await scorer.score(paths[::-1])) == pytest.approx(expected[::-1], abs=1e-3)
    assert max(expected) - min(expected) > 0.05
    assert scorer.stats.tokens_encoded > 0
