"""What vLLM is told of a request besides its work: whose it is, and in which trace. With a stand-in for vLLM."""

import sys
import threading
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path as FilePath
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from search.protocols import Path
from server.engines.model_folder import read_policy_folder, read_ppm_folder
from server.engines.protocols import Sampling
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.policy import VllmPolicyEngine
from server.engines.vllm.ppm import VllmScorer


class FakeLlm:
    """Answers at once, and keeps what it was told."""

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
        yield SimpleNamespace(outputs=SimpleNamespace(data=0.5))


class FakeRunning:
    """An engine without processes."""

    is_dead = False

    def __init__(self, llm: FakeLlm) -> None:
        self.llm = llm

    def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def stand_in_for_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("vllm", "vllm.sampling_params", "vllm.v1", "vllm.v1.engine", "vllm.v1.engine.exceptions")
    modules = {name: ModuleType(name) for name in (*kept, "vllm.v1.engine.async_llm")}
    modules["vllm"].__dict__.update(SamplingParams=SimpleNamespace, PoolingParams=SimpleNamespace)
    modules["vllm.sampling_params"].__dict__["RequestOutputKind"] = SimpleNamespace(FINAL_ONLY=None)
    modules["vllm.v1.engine.exceptions"].__dict__.update(EngineDeadError=OSError, EngineGenerateError=OSError)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


async def test_a_request_bears_the_id_and_trace_of_the_one_it_works_for(
    policy_folder: FilePath, ppm_folder: FilePath
) -> None:
    llm, trace = FakeLlm(), {"traceparent": "00-1-2-01", "tracestate": "a=b"}

    class Policy(VllmPolicyEngine):
        def _start(self) -> Any:
            return FakeRunning(llm)

    class Scorer(VllmScorer):
        def _start(self) -> Any:
            return FakeRunning(llm)

    options, turn = VllmOptions(label=lambda: Label("mine-01234567", trace)), threading.Lock()
    async with Policy(read_policy_folder(policy_folder), options, turn=turn) as policy:
        (candidate,) = await policy.policy(Sampling()).propose(Path(problem="1+2"), 1, seed=0)
    async with Scorer(read_ppm_folder(ppm_folder), options, turn=turn) as scorer:
        (score,) = await scorer.score([Path(problem="1+2")])
    assert (candidate.token_ids, score > 0) == ((5,), True)
    assert llm.told == [("mine-01234567", trace)] * 2


async def test_requests_for_nobody_have_ids_of_their_own(ppm_folder: FilePath) -> None:
    llm = FakeLlm()

    class Scorer(VllmScorer):
        def _start(self) -> Any:
            return FakeRunning(llm)

    async with Scorer(read_ppm_folder(ppm_folder), VllmOptions(), turn=threading.Lock()) as scorer:
        await scorer.score([Path(problem="1+2"), Path(problem="1+3")])
    (first, first_trace), (second, second_trace) = llm.told
    assert first != second
    assert (first_trace, second_trace) == ({}, {})
