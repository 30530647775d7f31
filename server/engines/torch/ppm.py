# pyright: basic
"""The torch PPM: `search.protocols.StepScorer` over a local checkpoint, scoring every search's paths together.

A score is tanh of the scalar head at the path's very last token. The computing is done on the runtime's thread.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from search.protocols import Path, PathTooLong
from server.engines.errors import EngineError
from server.engines.rendering import PathTokens
from server.engines.stats import EngineCounters
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.inbox import Inbox, Reply
from server.engines.torch.path_encoder import PathSegments
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.thread_engine import ThreadEngine

_STEP_TOKENS = 4096
"""Path tokens per step, reused ones included: bounds how long a policy on the same thread waits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ScoreRequest:
    """One call of `StepScorer.score`."""

    paths: tuple[PathSegments, ...]
    scores: list[float | None]
    """Filled in as the paths are scored."""
    reply: Reply[list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class _PathToScore:
    request: _ScoreRequest
    index: int

    @property
    def segments(self) -> PathSegments:
        return self.request.paths[self.index]


class ScoreLoop:
    """The PPM's workload: scores waiting paths in order of arrival, those of several requests in one batch."""

    def __init__(self, checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
        self.inbox: Inbox[_ScoreRequest] = Inbox()
        self.counters = EngineCounters()
        model = runtime.model(checkpoint)
        self._encoder = runtime.encoder(model, self.counters)
        self._head = checkpoint.head.float()
        self._held: set[_ScoreRequest] = set()
        """Every request not answered yet, also while a step works on it."""
        self._waiting: deque[_PathToScore] = deque()

    def has_work(self) -> bool:
        return bool(self._waiting or len(self.inbox))

    def step(self) -> None:
        while (request := self.inbox.take()) is not None:
            self.counters.requests += 1
            self._held.add(request)
            self._waiting.extend(_PathToScore(request, index) for index in range(len(request.paths)))
        self._drop_abandoned()
        batch = self._next_batch()
        self.counters.waiting = len(self._waiting)
        if not batch:
            return
        self.counters.running = len(batch)
        self._score(batch)
        self.counters.running = 0

    def _score(self, batch: list[_PathToScore]) -> None:
        self.counters.observe_batch(len(batch))
        nodes = self._encoder.encode([item.segments for item in batch])
        logits = F.linear(torch.stack([node.hidden for node in nodes]), self._head)
        for item, score in zip(batch, torch.tanh(logits).squeeze(1).tolist(), strict=True):
            item.request.scores[item.index] = score
        for request in dict.fromkeys(item.request for item in batch):
            scores = [score for score in request.scores if score is not None]
            if len(scores) == len(request.paths):
                self._held.discard(request)
                request.reply.resolve(scores)

    def refuse(self, error: EngineError) -> None:
        for request in (*self.inbox.refuse(error), *self._held):
            request.reply.refuse(error)
        self._held.clear()

    def _drop_abandoned(self) -> None:
        abandoned = {request for request in self._held if request.reply.is_abandoned}
        if abandoned:
            self._held -= abandoned
            self.counters.aborted += len(abandoned)
            self._waiting = deque(item for item in self._waiting if item.request not in abandoned)

    def _next_batch(self) -> list[_PathToScore]:
        batch: list[_PathToScore] = []
        tokens = 0
        while self._waiting:
            tokens += sum(map(len, self._waiting[0].segments))
            if batch and tokens > _STEP_TOKENS:
                break
            batch.append(self._waiting.popleft())
        return batch


class TorchScorer(ThreadEngine):
    """`server.engines.protocols.ScorerEngine` with a Qwen2-shaped PPM."""

    def __init__(self, checkpoint: Checkpoint, *, runtime: TorchRuntime | None = None) -> None:
        self.model_id = checkpoint.model_id
        self.path_tokens = PathTokens(checkpoint.tokenizer)
        self.context_tokens = checkpoint.shape.context_tokens
        runtime = runtime or TorchRuntime()
        super().__init__(runtime.compute, ScoreLoop(checkpoint, runtime))

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises what a proposal does."""
        if not paths:
            return []
        segments = tuple(self.path_tokens.segments(path) for path in paths)
        longest = max(sum(map(len, path)) for path in segments)
        if longest > self.context_tokens:
            raise PathTooLong(f"a path has {longest} tokens, the PPM's context {self.context_tokens}")
        request = _ScoreRequest(paths=segments, scores=[None] * len(paths), reply=Reply())
        return await self.ask(request, request.reply)
