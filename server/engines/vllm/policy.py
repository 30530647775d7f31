# pyright: basic, reportMissingImports=false
"""The vLLM policy: one engine that batches every search's requests, and its views."""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path
from server.engines.model_folder import ModelFolder
from server.engines.policy_view import room_for_step
from server.engines.protocols import EngineName, Sampling
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.engine import VllmEngine

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import CompletionOutput
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmPolicyEngine(VllmEngine):
    """`server.engines.protocols.PolicyEngine` on vLLM."""

    def __init__(self, model: ModelFolder, options: VllmOptions, *, turn: threading.Lock) -> None:
        super().__init__(model, EngineName.POLICY, options, turn=turn)

    def policy(self, sampling: Sampling) -> "VllmPolicy":
        """See `server.engines.protocols.PolicyEngine`."""
        return VllmPolicy(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        return len(self.path_tokens.token_ids(Path(problem=problem)))

    async def prove(self, llm: "AsyncLLM") -> None:
        token_ids = self.path_tokens.token_ids(Path(problem=""))
        params = VllmPolicy(self, Sampling()).params(1, seed=0, max_tokens=2)
        async for _ in llm.generate({"type": "token", "prompt_token_ids": list(token_ids)}, params, "first"):
            pass


@dataclass(frozen=True, slots=True)
class VllmPolicy:
    """A view of the engine that draws in one way."""

    engine: VllmPolicyEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates. Raises `PathTooLong`, `EngineError`, and ValueError for n < 1 or another model's tokens."""
        token_ids = self.engine.path_tokens.token_ids(path)
        room = room_for_step(len(token_ids), n, context_tokens=self.engine.context_tokens, sampling=self.sampling)
        # Greedy samples are all the same, and vLLM refuses to make more than one.
        copies = n if self.sampling.temperature == 0 else 1
        params = self.params(n // copies, seed=seed, max_tokens=room)

        async with self.engine.counted():
            request = await self.engine.run(
                lambda llm, label: llm.generate(
                    {"type": "token", "prompt_token_ids": list(token_ids)},
                    params,
                    label.request_id,
                    trace_headers=label.trace_headers,
                )
            )
        return [self._candidate(output) for output in request.outputs] * copies

    def params(self, n: int, *, seed: int, max_tokens: int) -> "SamplingParams":
        """What vLLM is asked for."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=n,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            seed=_engine_seed(seed),
            max_tokens=max_tokens,
            stop_token_ids=list(self.engine.model.step_tokenizer.stops),
            ignore_eos=True,  # the end of text is among our stops
            detokenize=False,
            logprobs=0,  # without it there is no sum of log-probabilities either
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _candidate(self, output: "CompletionOutput") -> Candidate:
        token_ids = tuple(output.token_ids)
        tokenizer = self.engine.model.step_tokenizer
        stop = tokenizer.stops.get(token_ids[-1], CandidateStop.LENGTH)
        if max(token_ids) >= tokenizer.size:
            stop = CandidateStop.LENGTH  # the model's vocabulary is padded, and the padding has no text: no such step
        return Candidate(
            text=tokenizer.decode_step(token_ids),
            token_ids=token_ids,
            logprob=float(output.cumulative_logprob or 0.0),
            stop=stop,
        )


def _engine_seed(seed: int) -> int:
    """A hash of `seed`: vLLM gives sample k the seed + k, so that neighbouring requests would share samples."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2  # far enough below 2**63 that adding k stays there
