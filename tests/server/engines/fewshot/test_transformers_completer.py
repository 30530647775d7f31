# pyright: basic
"""The few-shot policy on tiny models of several architectures, compared with transformers."""

import asyncio
import dataclasses
import gc
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import torch
import transformers

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathStep, PathTooLong
from server.engines.errors import CheckpointError, EngineClosed, EngineFailed
from server.engines.fewshot.format import FewShotFormat, read_format
from server.engines.fewshot.transformers_completer import TransformersCompleter
from server.engines.model_folder import ModelFolder
from server.engines.policy import CompletionRequest, PolicyEngine
from server.engines.protocols import Sampling
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.built import few_shot_policy
from tests.server.engines.tiny_models import CONTEXT_TOKENS, save_chat_model, save_tokenizer
from tests.server.engines.waiting import until

PATH = Path(problem="What is 12 + 30?")
SAMPLED = Sampling(temperature=0.9, top_p=0.95, max_step_tokens=12)
GREEDY = Sampling(temperature=0.0, max_step_tokens=16)


class Opened(NamedTuple):
    engine: PolicyEngine
    completer: TransformersCompleter
    tokens: FewShotFormat
    folder: FilePath


@pytest_asyncio.fixture(params=["chat_folder", "plain_folder"])
async def opened(request: pytest.FixtureRequest, one_thread: TorchRuntime) -> AsyncGenerator[Opened]:
    folder = request.getfixturevalue(request.param)
    tokens = read_format(ModelFolder(folder))
    completer = TransformersCompleter(ModelFolder(folder), tokens.tokenizer, runtime=one_thread)
    async with PolicyEngine(completer, tokens) as engine:
        yield Opened(engine, completer, tokens, folder)


def request(opened: Opened, *, n: int = 1, stop_strings: tuple[str, ...] = (), seed: int = 1) -> CompletionRequest:
    segments = opened.tokens.segments(PATH)
    return CompletionRequest(
        segments=segments, n=n, seed=seed, sampling=GREEDY, max_tokens=16, stop_strings=stop_strings
    )


def token_ids(candidates: list[Candidate]) -> list[tuple[int, ...]]:
    return [candidate.token_ids for candidate in candidates]


async def test_greedy_completions_are_those_of_transformers(opened: Opened) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(opened.folder, dtype=torch.float32).eval()
    prompt = torch.tensor([opened.tokens.token_ids(PATH)])
    suppressed = list(range(opened.tokens.size, model.config.vocab_size))  # the padding of the vocabulary
    config = transformers.GenerationConfig(
        max_new_tokens=16,
        do_sample=False,
        repetition_penalty=1.0,  # whatever the folder asks for
        suppress_tokens=suppressed,
        eos_token_id=10**6,
        pad_token_id=0,
    )
    expected = model.generate(prompt, generation_config=config)[0, prompt.shape[1] :].tolist()
    (found,) = await opened.completer.complete(request(opened))
    assert list(found.token_ids) == expected
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt[0].tolist(), *expected]])).logits[0, :, : opened.tokens.size]
    own = logits.log_softmax(-1)[prompt.shape[1] - 1 : -1].gather(1, torch.tensor(expected).unsqueeze(1))
    assert found.logprob == pytest.approx(own.sum().item(), abs=1e-3)


async def test_a_completion_ends_with_the_token_of_a_stop_string(opened: Opened) -> None:
    (whole,) = await opened.completer.complete(request(opened))
    text = opened.tokens.decode(whole.token_ids)
    stop = text[5:8]
    (found,) = await opened.completer.complete(request(opened, stop_strings=("never seen", stop)))
    assert stop in opened.tokens.decode(found.token_ids)
    assert stop not in opened.tokens.decode(found.token_ids[:-1])
    assert found.token_ids == whole.token_ids[: len(found.token_ids)]


async def test_the_seed_decides_all_candidates(opened: Opened) -> None:
    policy = opened.engine.policy(SAMPLED)
    one, again, two = [list(await policy.propose(PATH, 6, seed=seed)) for seed in (11, 11, 12)]
    assert token_ids(one) == token_ids(again)
    assert len(set(token_ids([*one, *two]))) == 12
    fewer = await policy.propose(PATH, 2, seed=11)
    assert token_ids(list(fewer)) == token_ids(one[:2])


async def test_calls_at_once_are_answered_as_they_are_one_by_one(opened: Opened) -> None:
    policy = opened.engine.policy(SAMPLED)
    calls = [(Path(problem=f"{k} + {k}?"), 1 + k % 3, k) for k in range(5)]
    alone = [list(await policy.propose(path, n, seed=seed)) for path, n, seed in calls]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(policy.propose(path, n, seed=seed)) for path, n, seed in calls]
    assert [token_ids(list(task.result())) for task in tasks] == [token_ids(found) for found in alone]
    assert opened.engine.stats.requests == 10
    assert opened.engine.stats.running == 0
    assert opened.engine.fault is None


async def test_a_candidate_ends_at_token_limit_and_context(opened: Opened) -> None:
    (candidate,) = await opened.engine.policy(Sampling(temperature=0.0, max_step_tokens=3)).propose(PATH, 1, seed=1)
    assert len(candidate.token_ids) == 3
    assert candidate.stop is CandidateStop.LENGTH
    assert opened.engine.context_tokens == CONTEXT_TOKENS
    used = opened.engine.prompt_tokens(PATH.problem)
    for room in (2, 0):
        step = PathStep(text="", token_ids=(40,) * (CONTEXT_TOKENS - used - room), stop=CandidateStop.END_OF_STEP)
        path = Path(problem=PATH.problem, steps=(step,))
        if room:
            (candidate,) = await opened.engine.policy(SAMPLED).propose(path, 1, seed=1)
            assert len(candidate.token_ids) <= room
        else:
            with pytest.raises(PathTooLong):
                await opened.engine.policy(SAMPLED).propose(path, 1, seed=1)
    with pytest.raises(ValueError, match="n >= 1"):
        await opened.engine.policy(SAMPLED).propose(PATH, 0, seed=1)


async def test_a_cancelled_call_stops_the_model_for_the_next(opened: Opened) -> None:
    endless = Sampling(temperature=0.9, max_step_tokens=3000)
    policy = opened.engine.policy(endless)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(policy.propose(PATH, 2, seed=1))
        await until(lambda: opened.engine.stats.tokens_generated > 0, poll_s=0)
        call.cancel()
    assert len(await opened.engine.policy(SAMPLED).propose(PATH, 1, seed=1)) == 1
    assert opened.engine.stats.aborted == 1
    assert 0 < opened.engine.stats.tokens_aborted < opened.engine.stats.tokens_generated < 3000


async def test_an_engine_that_was_left_answers_nothing(chat_folder: FilePath, one_thread: TorchRuntime) -> None:
    engine = few_shot_policy(chat_folder, one_thread)
    async with engine:
        pass
    with pytest.raises(EngineClosed):
        await engine.policy(SAMPLED).propose(PATH, 1, seed=1)


async def test_a_model_that_breaks_answers_everybody_and_stays_broken(opened: Opened) -> None:
    broken = dataclasses.replace(request(opened), segments=((10**6,),))
    for _ in range(2):
        with pytest.raises(EngineFailed, match="IndexError"):
            await opened.completer.complete(broken)
    assert "IndexError" in (opened.engine.fault or "")


async def test_a_loop_that_failed_amid_a_call_frees_its_cache(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[weakref.ref[transformers.DynamicCache]] = []

    class Cache(transformers.DynamicCache):
        def __init__(self) -> None:
            super().__init__()
            caches.append(weakref.ref(self))

    def fail(*_: object) -> None:
        raise ArithmeticError("no token")

    monkeypatch.setattr("server.engines.fewshot.transformers_completer.DynamicCache", Cache)
    monkeypatch.setattr("server.engines.torch.sampling.choose", fail)
    with pytest.raises(EngineFailed, match="no token"):
        await opened.completer.complete(request(opened, n=3))
    gc.collect()
    assert [cache() for cache in caches] == [None]
    assert opened.engine.stats.running == 0


def test_a_folder_that_cannot_be_served_is_refused(tmp_path: FilePath, one_thread: TorchRuntime) -> None:
    folder = save_chat_model(tmp_path / "model")
    size = save_tokenizer(folder, tuple(f"<{k}>" for k in range(200)))
    assert size > 300
    with pytest.raises(CheckpointError, match="tokens, the model only"):
        few_shot_policy(folder, one_thread)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot read it as a causal language model"):
        few_shot_policy(folder, one_thread)
