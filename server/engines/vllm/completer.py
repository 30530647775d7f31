# pyright: basic, reportMissingImports=false
"""Completions from vLLM beside the server: one engine batches the requests of every search."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from server.engines.model_folder import ModelFolder
from server.engines.policy import Completion, CompletionRequest, StepFormat, vllm_seed
from server.engines.protocols import EngineName, Sampling
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.engine import VllmEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmCompleter(VllmEngine):
    """`server.engines.policy.Completer` on vLLM."""

    def __init__(
        self, model: ModelFolder, step_format: StepFormat, options: VllmOptions, *, turn: asyncio.Lock
    ) -> None:
        super().__init__(model, EngineName.POLICY, options, turn=turn)
        self._stops_at_text = bool(step_format.stop_strings)

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """See `Completer.complete`."""
        with self.counters.calling():
            answer = await self.run(lambda llm, label: _generate(llm, label, request))
        return [_completion(output) for output in answer.outputs]

    def arguments(self) -> Mapping[str, object]:
        """vLLM needs a tokenizer only to find texts that end a step."""
        return {"skip_tokenizer_init": not self._stops_at_text}

    async def prove(self, llm: "AsyncLLM") -> None:
        """See `VllmEngine.prove`."""
        request = CompletionRequest(segments=((0,),), n=1, seed=0, sampling=Sampling(), max_tokens=2)
        async for _ in _generate(llm, Label("first"), request):
            pass


def _generate(llm: "AsyncLLM", label: Label, request: CompletionRequest) -> "AsyncGenerator[RequestOutput]":
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    params = SamplingParams(
        n=request.n,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        seed=vllm_seed(request.seed),
        max_tokens=request.max_tokens,
        stop_token_ids=list(request.stop_token_ids),
        stop=list(request.stop_strings),
        ignore_eos=True,  # the end of text is among the stops
        detokenize=bool(request.stop_strings),
        skip_special_tokens=False,
        logprobs=0,  # without it there is no sum of log-probabilities either
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return llm.generate(
        {"type": "token", "prompt_token_ids": list(request.prompt)},
        params,
        label.request_id,
        trace_headers=label.trace_headers,
    )


def _completion(output: "CompletionOutput") -> Completion:
    return Completion(token_ids=tuple(output.token_ids), logprob=float(output.cumulative_logprob or 0.0))
