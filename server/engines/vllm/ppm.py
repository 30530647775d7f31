# pyright: basic, reportMissingImports=false
"""The vLLM PPM: a pooling engine whose raw output, without vLLM's activation, goes through tanh here."""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from search.protocols import Path, PathTooLong
from server.engines.errors import EngineError
from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.engine import Label, VllmEngine

if TYPE_CHECKING:
    from vllm.outputs import PoolingRequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmScorer(VllmEngine):
    """`server.engines.protocols.ScorerEngine` on vLLM."""

    def __init__(self, model: ModelFolder, options: VllmOptions, *, turn: threading.Lock) -> None:
        super().__init__(model, EngineName.PPM, options, turn=turn)

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises what a proposal does."""
        if not paths:
            return []
        prompts = [self.path_tokens.token_ids(path) for path in paths]
        longest = max(map(len, prompts))
        if longest > self.context_tokens:
            raise PathTooLong(f"a path has {longest} tokens, the PPM's context {self.context_tokens}")
        async with self.counted():
            try:
                async with asyncio.TaskGroup() as group:
                    scores = [group.create_task(self._score(prompt)) for prompt in prompts]
            except* EngineError as failures:
                failure = failures.exceptions[0]
            else:
                return [score.result() for score in scores]
        raise failure  # inside `except*` it would come out in a group again

    async def prove(self, llm: "AsyncLLM") -> None:
        async for _ in _encode(llm, Label("first", {}), self.path_tokens.token_ids(Path(problem=""))):
            pass

    async def _score(self, token_ids: Sequence[int]) -> float:
        request = await self.run(lambda llm, label: _encode(llm, label, token_ids))
        return math.tanh(float(request.outputs.data))


def _encode(llm: "AsyncLLM", label: Label, token_ids: Sequence[int]) -> "AsyncGenerator[PoolingRequestOutput]":
    from vllm import PoolingParams

    raw = PoolingParams(task="classify", use_activation=False)
    return llm.encode(
        {"type": "token", "prompt_token_ids": list(token_ids)}, raw, label.request_id, trace_headers=label.trace_headers
    )
