# pyright: basic
"""The scorer for reward models of other makes: `server.engines.protocols.ScorerEngine` by transformers, on the compute
thread. A score is what the head makes of the hidden state at a path's last token.

Made for small models and for machines without vLLM: nothing is kept between calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from search.protocols import Path, PathTooLong
from server.engines.errors import CheckpointError, EngineError
from server.engines.model_folder import ModelFolder
from server.engines.prm.heads import RewardHead
from server.engines.rendering import PathRendering
from server.engines.stats import EngineCounters
from server.engines.torch.inbox import Inbox, Reply
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.thread_engine import ThreadEngine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """One call of `StepScorer.score`."""

    prompts: Sequence[Sequence[int]]
    reply: Reply[list[float]]


class PrmLoop:
    """The workload: one call after the other, all paths of a call in one batch."""

    def __init__(self, model: PreTrainedModel, head: RewardHead) -> None:
        self.inbox: Inbox[_Work] = Inbox()
        self.counters = EngineCounters()
        self._model = model
        self._head = head
        self._held: _Work | None = None
        """What a step is at, so that a failure reaches whoever waits for it."""

    def has_work(self) -> bool:
        return len(self.inbox) > 0

    def step(self) -> None:
        work = self.inbox.take()
        if work is None:
            return
        self.counters.requests += 1
        if work.reply.is_abandoned:
            self.counters.aborted += 1
            return
        self._held = work
        work.reply.resolve(self._scores(work.prompts))
        self._held = None

    def refuse(self, error: EngineError) -> None:
        held = [] if self._held is None else [self._held]
        for work in (*self.inbox.refuse(error), *held):
            work.reply.refuse(error)

    def _scores(self, prompts: Sequence[Sequence[int]]) -> list[float]:
        """Padded at the end, where a causal model does not look from any token that counts."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
        hidden_B_S_H = self._model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
        self.counters.forward_passes += 1
        self.counters.tokens_encoded += int(lengths.sum())
        self.counters.observe_batch(len(prompts))
        return self._head(hidden_B_S_H[torch.arange(len(prompts)), lengths - 1]).tolist()


class PrmScorer(ThreadEngine):
    """Scores paths with any backbone and head."""

    def __init__(
        self, folder: FilePath, rendering: PathRendering, head: RewardHead, *, runtime: TorchRuntime | None = None
    ) -> None:
        """Reads the backbone from the folder; takes seconds. Code that came with it is never run."""
        self._rendering = rendering
        runtime = runtime or TorchRuntime()
        model = _backbone(folder, dtype=getattr(torch, runtime.precision.value))
        super().__init__(runtime.compute, PrmLoop(model.eval(), head))
        self.model_id = ModelFolder(folder).model_id
        self.context_tokens = int(model.config.max_position_embeddings)

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises `PathTooLong` and `EngineError`."""
        if not paths:
            return []
        prompts = [self._rendering.token_ids(path) for path in paths]
        longest = max(map(len, prompts))
        if longest > self.context_tokens:
            raise PathTooLong(f"a path has {longest} tokens, the PPM's context {self.context_tokens}")
        work = _Work(prompts=prompts, reply=Reply())
        return await self.ask(work, work.reply)


def _backbone(folder: FilePath, *, dtype: torch.dtype) -> PreTrainedModel:
    """The model below its heads. Raises `CheckpointError`, also where weights of it are missing."""
    try:
        # Named by its type: a published PRM maps its classes to Python files of its own, which are not to be run.
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: transformers cannot read it ({error})") from error
    if report["missing_keys"]:
        raise CheckpointError(f"{folder}: weights are missing: {sorted(report['missing_keys'])[:5]}")
    return model
