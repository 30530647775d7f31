# pyright: basic
"""Few-shot completions from a local model by transformers: `server.engines.completion_policy.Completer` in-process."""

from collections.abc import Sequence
from pathlib import Path as FilePath

import torch
from transformers import AutoModelForCausalLM

from server.engines.completion_policy import Completion, CompletionRequest
from server.engines.errors import CheckpointError
from server.engines.fewshot.format import FewShotFormat
from server.engines.fewshot.loop import CompletionLoop, CompletionWork
from server.engines.model_folder import ModelFolder
from server.engines.torch.inbox import Reply
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.thread_engine import ThreadEngine


class TransformersCompleter(ThreadEngine):
    """Runs any `*ForCausalLM` folder on the runtime's thread, in the runtime's precision."""

    def __init__(self, folder: FilePath, tokens: FewShotFormat, *, runtime: TorchRuntime | None = None) -> None:
        """Reads the folder; takes seconds. Code that came with a model is never run. Raises `CheckpointError`."""
        runtime = runtime or TorchRuntime()
        dtype = getattr(torch, runtime.precision.value)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{folder}: transformers cannot read it as a causal language model ({error})"
            ) from error
        vocabulary = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType] # a tensor
        if tokens.size > vocabulary:
            raise CheckpointError(f"{folder}: the tokenizer has {tokens.size} tokens, the model only {vocabulary}")
        self.model_id = ModelFolder(folder).model_id
        self.context_tokens = int(model.config.get_text_config().max_position_embeddings)
        super().__init__(runtime.compute, CompletionLoop(model.eval(), tokens.decode, vocabulary=tokens.size))

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """Sample k draws from its own generator, seeded by (seed, k)."""
        work = CompletionWork(request=request, reply=Reply())
        return await self.ask(work, work.reply)
