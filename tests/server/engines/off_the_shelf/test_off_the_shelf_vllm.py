"""Off-the-shelf models on real vLLM servers: the same steps and scores as by transformers here."""

import json
from collections.abc import Generator
from pathlib import Path as FilePath

import pytest

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.fewshot.chat import frame_of
from server.engines.fewshot.completer import CompletionRequest
from server.engines.fewshot.engines import local_instruct_policy, remote_instruct_policy
from server.engines.fewshot.policy import InstructPolicyEngine
from server.engines.fewshot.tokens import read_tokens
from server.engines.prm.engines import local_prm, remote_prm
from server.engines.prm.rendering import PrmTokens
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress
from server.engines.remote.completer import RemoteCompleter
from server.engines.remote.engines import model_context_tokens
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.remote.vllm_server import vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]

PATH = Path(problem="What is 12 + 30?")
GREEDY = Sampling(temperature=0.0, max_step_tokens=24)


@pytest.fixture(scope="module")
def chat_server(chat_folder: FilePath) -> Generator[RemoteAddress, None, None]:
    with vllm_server(chat_folder, name="chat", is_pooling=False, dtype="float32") as address:
        yield address


@pytest.fixture(scope="module")
def prm_server(prm_folder: FilePath) -> Generator[RemoteAddress, None, None]:
    # The published model needs no such argument: vLLM knows the number of its separator.
    separator = {"step_tag_id": PrmTokens(prm_folder / "tokenizer.json").separator_id}
    arguments = ["--pooler-config", json.dumps(separator)]
    with vllm_server(prm_folder, name="prm", is_pooling=True, dtype="float32", arguments=arguments) as address:
        yield address


async def test_few_shot_steps_are_those_of_transformers(
    chat_server: RemoteAddress, chat_folder: FilePath, one_thread: TorchRuntime
) -> None:
    async with (
        remote_instruct_policy(chat_server, chat_folder) as remote,
        local_instruct_policy(chat_folder, runtime=one_thread) as local,
    ):
        (found,) = await remote.policy(GREEDY).propose(PATH, 1, seed=1)
        (expected,) = await local.policy(GREEDY).propose(PATH, 1, seed=1)
        many = await remote.policy(Sampling(temperature=1.0, max_step_tokens=24)).propose(PATH, 8, seed=1)
    assert (found.token_ids, found.text, found.stop) == (expected.token_ids, expected.text, expected.stop)
    # vLLM gives the padding of the vocabulary its share of the probability: of a random model, 6 in 326.
    assert found.logprob == pytest.approx(expected.logprob, abs=24 * 0.04)
    assert len({candidate.token_ids for candidate in many}) == 8


async def test_a_stop_string_ends_a_generation_and_keeps_its_tokens(
    chat_server: RemoteAddress, chat_folder: FilePath
) -> None:
    tokens = read_tokens(chat_folder, frame_of(chat_folder))
    completer = RemoteCompleter(chat_server, context_tokens=model_context_tokens(chat_folder), telling={})
    prompt = tokens.token_ids(PATH)
    async with InstructPolicyEngine(completer, tokens):
        request = CompletionRequest(prompt=prompt, n=1, seed=1, sampling=GREEDY, max_tokens=24)
        (whole,) = await completer.complete(request)
        stop = next(text for text in map(tokens.decode, ([token] for token in whole.token_ids[4:])) if text.isascii())
        request = CompletionRequest(
            prompt=prompt, n=1, seed=1, sampling=GREEDY, max_tokens=24, stop_strings=("<end_of_step>", stop)
        )
        (found,) = await completer.complete(request)
    assert found.token_ids == whole.token_ids[: len(found.token_ids)]
    assert stop in tokens.decode(found.token_ids)
    assert stop not in tokens.decode(found.token_ids[:-1])


async def test_a_process_reward_model_on_vllm_gives_the_scores_of_transformers(
    prm_server: RemoteAddress, prm_folder: FilePath, one_thread: TorchRuntime
) -> None:
    steps = (
        PathStep(text="\n# Add\ntotal = 12 + 30\n", token_ids=(40,), stop=CandidateStop.END_OF_STEP),
        PathStep(text="\nprint(total)\n", token_ids=(50,), stop=CandidateStop.END_OF_CODE, output="42"),
        PathStep(text="\n<answer>It is \\boxed{42}.", token_ids=(60,), stop=CandidateStop.END_OF_ANSWER),
    )
    paths = [*(Path(problem=PATH.problem, steps=steps[:length]) for length in range(4)), Path(problem="", steps=steps)]
    async with (
        remote_prm(prm_server, prm_folder, reads_policy_tokens=False) as remote,
        local_prm(prm_folder, reads_policy_tokens=False, runtime=one_thread) as local,
    ):
        expected = list(await local.score(paths))
        assert list(await remote.score(paths)) == pytest.approx(expected, abs=1e-3)
        assert list(await remote.score(paths[::-1])) == pytest.approx(expected[::-1], abs=1e-3)
    assert max(expected) - min(expected) > 0.05
