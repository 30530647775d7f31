# pyright: basic
"""A stand-in for vLLM: engines without processes, for an environment in which it is not installed."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path as FilePath
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from server.engines.model_folder import ModelFolder
from server.engines.policy import PolicyEngine, TrainedFormat
from server.engines.prm.pooling import RAW_SCORE
from server.engines.rendering import PathTokens
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.completer import VllmCompleter
from server.engines.vllm.ppm import VllmScorer


class Dead(Exception):
    """As vLLM's `EngineDeadError`."""


class Failed(Exception):
    """As vLLM's `EngineGenerateError`."""


class FakeLlm:
    """Answers at once, unless it has to wait, and keeps the labels of its requests."""

    output_handler = None

    def __init__(self) -> None:
        self.errored = False
        self.labels: list[tuple[str, Mapping[str, str]]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.fails_once = False
        """Whether the next request fails, while the engine goes on."""
        self.shutdowns = 0
        self.output_processor = SimpleNamespace(propagate_error=self._fail)

    def _fail(self, _: Exception) -> None:
        """What waits for an answer gets none."""
        self.errored = True
        self.may_answer.set()

    async def generate(
        self, prompt: object, params: object, request_id: str, *, trace_headers: Mapping[str, str]
    ) -> AsyncGenerator[Any]:
        await self._hear(request_id, trace_headers)
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[5], cumulative_logprob=-1.0)])

    async def encode(
        self, prompt: object, params: object, request_id: str, *, trace_headers: Mapping[str, str]
    ) -> AsyncGenerator[Any]:
        await self._hear(request_id, trace_headers)
        yield SimpleNamespace(outputs=SimpleNamespace(data=torch.tensor([0.5])))

    def shutdown(self, timeout: float) -> None:
        self.shutdowns += 1

    async def _hear(self, request_id: str, trace_headers: Mapping[str, str]) -> None:
        self.labels.append((request_id, trace_headers))
        await self.may_answer.wait()
        if self.errored:
            raise Dead
        if self.fails_once:
            self.fails_once = False
            raise Failed


@pytest.fixture
def stand_in_for_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the imports of vLLM succeed."""
    names = ("v1", "v1.engine", "v1.engine.exceptions", "v1.engine.async_llm", "sampling_params", "pooling_params")
    modules = {name: ModuleType(name) for name in ("vllm", *(f"vllm.{name}" for name in names))}
    kinds = SimpleNamespace(FINAL_ONLY=None)
    modules["vllm.sampling_params"].__dict__.update(SamplingParams=SimpleNamespace, RequestOutputKind=kinds)
    modules["vllm.pooling_params"].__dict__.update(PoolingParams=SimpleNamespace)
    modules["vllm.v1.engine.exceptions"].__dict__.update(EngineDeadError=Dead, EngineGenerateError=Failed)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def fake_policy(construct: Callable[[], FakeLlm], path: FilePath, options: VllmOptions | None = None) -> PolicyEngine:
    """`construct` is called on a thread, for each start."""

    class Completer(VllmCompleter):
        def _construct(self) -> Any:
            return construct()

    folder = ModelFolder(path)
    step_format = TrainedFormat(folder.step_tokenizer)
    completer = Completer(folder, step_format, options or VllmOptions(), turn=asyncio.Lock())
    return PolicyEngine(completer, step_format)


def fake_scorer(construct: Callable[[], FakeLlm], path: FilePath, options: VllmOptions | None = None) -> VllmScorer:
    """As `fake_policy`."""

    class Scorer(VllmScorer):
        def _construct(self) -> Any:
            return construct()

    folder = ModelFolder(path)
    rendering = PathTokens(folder.step_tokenizer)
    return Scorer(folder, rendering, RAW_SCORE, options or VllmOptions(), turn=asyncio.Lock())
