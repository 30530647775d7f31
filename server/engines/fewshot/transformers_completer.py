# pyright: basic
"""Completions by transformers: runs any causal model on the compute thread, one request after the other.

`server.engines.policy.Completer` in this process. All samples of a request run as one batch over one
encoding of the prompt. Made for small models and for machines without vLLM: requests share nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from server.engines.errors import CheckpointError, EngineError
from server.engines.model_folder import ModelFolder
from server.engines.policy import Completion, CompletionRequest
from server.engines.rendering import SegmentTokenizer
from server.engines.torch.loop import Lane, ThreadEngine
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.sampling import Generation, GenerationLoop, Sample

_TAIL_TOKENS = 32
"""Searched for stop strings: no token is shorter than a character, and no string as long as this."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """The call at work."""

    call: Generation
    unfinished: Sequence[Sample]
    """The rows of the batch."""
    cache: DynamicCache
    logits_B_V: Tensor


class CompletionLoop(GenerationLoop):
    """Encodes the prompt of one call, then writes its samples token by token."""

    def __init__(self, model: PreTrainedModel, tokenizer: SegmentTokenizer) -> None:
        """The model's own vocabulary may be padded beyond the tokenizer's."""
        super().__init__()
        self._model = model
        self._tokenizer = tokenizer
        self._running: _Running | None = None

    def step(self) -> None:
        """See `EngineLoop`."""
        self.drop_abandoned()
        if self._running is not None and self._running.call in self.held:
            self._write(self._running)
        else:
            self._running = self._begin()
            self.counters.running = 0 if self._running is None else len(self._running.unfinished)

    def refuse(self, error: EngineError) -> None:
        """See `EngineLoop`. Frees the cache too."""
        super().refuse(error)
        self._running = None
        self.counters.running = 0

    def _begin(self) -> _Running | None:
        call = self.take()
        self.drop_abandoned()
        if call is None or call not in self.held:
            return None
        cache = DynamicCache()
        logits = self._forward(torch.tensor([call.request.prompt]), cache)
        self.counters.tokens_encoded += len(call.request.prompt)
        cache.batch_repeat_interleave(len(call.samples))
        logits_B_V = logits.expand(len(call.samples), -1)
        return _Running(call=call, unfinished=call.samples, cache=cache, logits_B_V=logits_B_V)

    def _write(self, running: _Running) -> None:
        rows = running.unfinished
        self.counters.observe_batch(len(rows))
        self.write(rows, running.logits_B_V)
        for sample in rows:
            sample.is_finished |= self._ends_with_a_stop(sample)
        kept = [index for index, sample in enumerate(rows) if not sample.is_finished]
        running.unfinished = [rows[index] for index in kept]
        self.counters.running = len(kept)
        if not kept:
            self._running = None
            self.answer_finished([running.call])
            return
        if len(kept) < len(rows):
            running.cache.batch_select_indices(torch.tensor(kept))
        last = torch.tensor([[sample.token_ids[-1]] for sample in running.unfinished])
        running.logits_B_V = self._forward(last, running.cache)

    def _ends_with_a_stop(self, sample: Sample) -> bool:
        tail = self._tokenizer.decode(sample.token_ids[-_TAIL_TOKENS:])
        return any(string in tail for string in sample.request.stop_strings)

    def _forward(self, ids: Tensor, cache: DynamicCache) -> Tensor:
        self.counters.forward_passes += 1
        output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1, : self._tokenizer.size].float()


class TransformersCompleter(ThreadEngine):
    """Runs any `*ForCausalLM` folder on the runtime's thread, in the runtime's precision."""

    def __init__(
        self, folder: ModelFolder, tokenizer: SegmentTokenizer, *, runtime: TorchRuntime | None = None
    ) -> None:
        """Reads the folder; takes seconds. Code that came with a model is never run. Raises `CheckpointError`."""
        runtime = runtime or TorchRuntime()
        dtype = getattr(torch, runtime.precision.value)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder.path, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{folder.path}: transformers cannot read it as a causal language model ({error})"
            ) from error
        vocabulary = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType] # a tensor
        if tokenizer.size > vocabulary:
            raise CheckpointError(
                f"{folder.path}: the tokenizer has {tokenizer.size} tokens, the model only {vocabulary}"
            )
        self.model_id = folder.model_id
        self.context_tokens = int(model.config.get_text_config().max_position_embeddings)
        super().__init__([Lane(runtime.compute, CompletionLoop(model.eval(), tokenizer))])

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """Each sample has its own generator, seeded by (seed, its number). See `Completer.complete`."""
        return await self.ask(Generation(request=request), sequences=request.n)
