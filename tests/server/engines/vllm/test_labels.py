"""What vLLM is told of a request besides its work: whose it is, and in which trace. With a stand-in for vLLM."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path as FilePath
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from search.protocols import Path
from server.engines.completion_policy import CompletionPolicyEngine, TrainedFormat
from server.engines.model_folder import ModelFolder
from server.engines.prm.pooling import RAW_SCORE
from server.engines.protocols import Sampling
from server.engines.rendering import PathTokens
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.completer import VllmCompleter
from server.engines.vllm.ppm import VllmScorer


class FakeLlm:
    """Answers at once, and keeps what it was told. Has no processes."""

    errored = False
    output_handler = None
    output_processor = Mock()

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, str]]] = []

    async def generate(
        self, prompt: object, params: object, request_id: str, *, trace_headers: Mapping[str, str]
    ) -> AsyncGenerator[Any]:
        self.told.append((request_id, trace_headers))
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[5], cumulative_logprob=-1.0)])

    async def encode(
        self, prompt: object, params: object, request_id: str, *, trace_headers: Mapping[str, str]
    ) -> AsyncGenerator[Any]:
        self.told.append((request_id, trace_headers))
        yield SimpleNamespace(outputs=SimpleNamespace(data=torch.tensor([0.5])))

    def shutdown(self, timeout: float) -> None:
        pass


@pytest.fixture(autouse=True)
def stand_in_for_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("v1", "v1.engine", "v1.engine.exceptions", "v1.engine.async_llm", "sampling_params", "pooling_params")
    modules = {name: ModuleType(name) for name in ("vllm", *(f"vllm.{name}" for name in names))}
    kinds = SimpleNamespace(FINAL_ONLY=None)
    modules["vllm.sampling_params"].__dict__.update(SamplingParams=SimpleNamespace, RequestOutputKind=kinds)
    modules["vllm.pooling_params"].__dict__.update(PoolingParams=SimpleNamespace)
    modules["vllm.v1.engine.exceptions"].__dict__.update(EngineDeadError=OSError, EngineGenerateError=OSError)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def fake_policy(llm: FakeLlm, path: FilePath, options: VllmOptions) -> CompletionPolicyEngine:
    class Completer(VllmCompleter):
        def _construct(self) -> Any:
            return llm

    folder = ModelFolder(path)
    step_format = TrainedFormat(folder.step_tokenizer)
    return CompletionPolicyEngine(Completer(folder, step_format, options, turn=asyncio.Lock()), step_format)


def fake_scorer(llm: FakeLlm, path: FilePath, options: VllmOptions) -> VllmScorer:
    class Scorer(VllmScorer):
        def _construct(self) -> Any:
            return llm

    folder = ModelFolder(path)
    return Scorer(folder, PathTokens(folder.step_tokenizer), RAW_SCORE, options, turn=asyncio.Lock())


async def test_a_request_has_the_id_and_trace_of_its_caller(policy_folder: FilePath, ppm_folder: FilePath) -> None:
    llm, trace = FakeLlm(), {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    options = VllmOptions(label=lambda: Label("mine-01234567", trace))
    async with fake_policy(llm, policy_folder, options) as policy, fake_scorer(llm, ppm_folder, options) as scorer:
        llm.told.clear()  # the first requests, made at the start
        (candidate,) = await policy.policy(Sampling()).propose(Path(problem="1+2"), 1, seed=0)
        (score,) = await scorer.score([Path(problem="1+2")])
    assert (candidate.token_ids, score > 0) == ((5,), True)
    assert llm.told == [("mine-01234567", trace)] * 2


async def test_requests_without_a_caller_have_ids_of_their_own(ppm_folder: FilePath) -> None:
    llm = FakeLlm()
    async with fake_scorer(llm, ppm_folder, VllmOptions()) as scorer:
        llm.told.clear()
        await scorer.score([Path(problem="1+2"), Path(problem="1+3")])
    (first, first_trace), (second, second_trace) = llm.told
    assert first != second
    assert (first_trace, second_trace) == ({}, {})
