# pyright: basic, reportMissingImports=false
"""The vLLM PPM: a pooling engine beside the server; its numbers become scores here."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING

from search import Path
from server.engines.errors import EngineError
from server.engines.model_folder import ModelFolder
from server.engines.prm.pooling import RAW_SCORE, Pooling, prompts_within
from server.engines.protocols import EngineName
from server.engines.rendering import PathRendering
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.engine import VllmEngine

if TYPE_CHECKING:
    from vllm.outputs import PoolingRequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmScorer(VllmEngine):
    """`server.engines.protocols.ScorerEngine` on vLLM."""

    def __init__(
        self,
        model: ModelFolder,
        rendering: PathRendering,
        pooling: Pooling,
        options: VllmOptions,
        *,
        turn: asyncio.Lock,
    ) -> None:
        super().__init__(model, EngineName.PPM, options, turn=turn)
        self._rendering = rendering
        self._pooling = pooling

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises `PathTooLong`, `EngineError`, and ValueError for foreign tokens."""
        prompts = prompts_within(self.context_tokens, paths, self._rendering)
        if not prompts:
            return []
        with self.counters.calling():
            try:
                async with asyncio.TaskGroup() as group:
                    scores = [group.create_task(self._score(prompt)) for prompt in prompts]
            except* EngineError as failures:
                failure = failures.exceptions[0]
            else:
                return [score.result() for score in scores]
        raise failure  # inside `except*` it would come out in a group again

    def arguments(self) -> Mapping[str, object]:
        """See `VllmEngine.arguments`."""
        if self._pooling is RAW_SCORE:
            return {"skip_tokenizer_init": True}
        from vllm.config import PoolerConfig

        # Every path ends with the separator. The rows are made where separators are computed: a prefix out of the cache
        # would have none.
        separator_id = self._rendering.token_ids(Path(problem=""))[-1]
        step = PoolerConfig(pooling_type="STEP", step_tag_id=separator_id)
        return {"skip_tokenizer_init": True, "pooler_config": step, "enable_prefix_caching": False}

    async def prove(self, llm: "AsyncLLM") -> None:
        """See `VllmEngine.prove`."""
        async for _ in self._encode(llm, Label("first"), self._rendering.token_ids(Path(problem=""))):
            pass

    async def _score(self, prompt: Sequence[int]) -> float:
        answer = await self.run(lambda llm, label: self._encode(llm, label, prompt))
        return self._pooling.score(answer.outputs.data.reshape(-1, self._pooling.width)[-1].tolist())

    def _encode(self, llm: "AsyncLLM", label: Label, prompt: Sequence[int]) -> "AsyncGenerator[PoolingRequestOutput]":
        from vllm.pooling_params import PoolingParams

        return llm.encode(
            {"type": "token", "prompt_token_ids": list(prompt)},
            PoolingParams(task=self._pooling.task, use_activation=self._pooling.use_activation),
            label.request_id,
            trace_headers=label.trace_headers,
        )
