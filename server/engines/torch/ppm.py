# pyright: basic
"""The torch PPM: scores the waiting paths of every search together, on the runtime's thread.

The model that scores a batch of paths is an argument: our own Qwen2 with its prefix cache here, a reward model of
another make in `server.engines.prm.scorer`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F

from search import Path, PathTooLong
from server.engines.protocols import EngineStats
from server.engines.rendering import PathRendering, PathSegments, PathTokens
from server.engines.torch.cache import PathEncoder
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.loop import Call, ComputeThread, EngineLoop, Lane, ThreadEngine, take_fitting
from server.engines.torch.model import Qwen2
from server.engines.torch.runtime import TorchRuntime

_STEP_TOKENS = 4096
"""Path tokens per step, reused and padding ones included: bounds how long a policy on the same thread waits."""

ScorePaths: TypeAlias = Callable[[Sequence[PathSegments]], list[float]]
"""One score in [-1, 1] per path, in order. Called on the compute thread."""
BatchTokens: TypeAlias = Callable[[Sequence[int]], int]
"""Tokens that a batch of paths of these lengths costs: their sum, unless the model pads them."""


@dataclass(kw_only=True, eq=False)
class _Scoring(Call[list[float]]):
    """One call of `StepScorer.score`."""

    paths: Sequence[PathSegments]
    scores: list[float | None]
    """Filled in as the paths are scored."""


class _WaitingPath(NamedTuple):
    """A path of a call."""

    call: _Scoring
    index: int

    @property
    def segments(self) -> PathSegments:
        return self.call.paths[self.index]


class ScoreLoop(EngineLoop[_Scoring]):
    """Scores waiting paths in order of arrival, those of several calls in one batch."""

    def __init__(self, score_paths: ScorePaths, counters: EngineStats, batch_tokens: BatchTokens = sum) -> None:
        """`counters`: the counters that `score_paths` updates. `batch_tokens`: what a batch costs it."""
        super().__init__(counters)
        self._score_paths = score_paths
        self._batch_tokens = batch_tokens
        self._waiting: deque[_WaitingPath] = deque()

    def step(self) -> None:
        """See `EngineLoop`."""
        while (call := self.take()) is not None:
            self._waiting.extend(_WaitingPath(call, index) for index in range(len(call.paths)))
        if abandoned := self.drop_abandoned():
            self._waiting = deque(path for path in self._waiting if path.call not in abandoned)
        batch = take_fitting(
            self._waiting,
            lambda path: sum(map(len, path.segments)),
            most=_STEP_TOKENS,
            size_of_all=self._batch_tokens,
        )
        self.counters.waiting = len(self._waiting)
        if batch:
            self.counters.running = len(batch)
            self._score(batch)
            self.counters.running = 0

    def _score(self, batch: list[_WaitingPath]) -> None:
        self.counters.observe_batch(len(batch))
        for path, score in zip(batch, self._score_paths([path.segments for path in batch]), strict=True):
            path.call.scores[path.index] = score
        for call in dict.fromkeys(path.call for path in batch):
            scores = [score for score in call.scores if score is not None]
            if len(scores) == len(call.paths):
                self.held.discard(call)
                call.answer(scores)


class PathScorer(ThreadEngine):
    """`server.engines.protocols.ScorerEngine` on a compute thread."""

    def __init__(  # a model's properties, and what runs it
        self,
        rendering: PathRendering,
        loop: ScoreLoop,
        *,
        model_id: str,
        context_tokens: int,
        thread: ComputeThread,
    ) -> None:
        super().__init__([Lane(thread, loop)])
        self.model_id = model_id
        self.rendering = rendering
        self.context_tokens = context_tokens

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises what a proposal does."""
        if not paths:
            return []
        segments = [self.rendering.segments(path) for path in paths]
        longest = max(sum(map(len, path)) for path in segments)
        if longest > self.context_tokens:
            raise PathTooLong(f"a path has {longest} tokens, the PPM's context {self.context_tokens}")
        return await self.ask(_Scoring(paths=segments, scores=[None] * len(paths)))


def torch_scorer(checkpoint: Checkpoint, *, runtime: TorchRuntime | None = None) -> PathScorer:
    """A Qwen2-shaped PPM: tanh of the scalar head at the path's very last token."""
    runtime = runtime or TorchRuntime()
    counters = EngineStats()
    model = Qwen2(checkpoint.shape, checkpoint.weights, precision=runtime.precision)
    encoder = PathEncoder(model, cache_bytes=runtime.prefix_cache_bytes, counters=counters)
    head = checkpoint.head.float()

    def score_paths(paths: Sequence[PathSegments]) -> list[float]:
        hidden = torch.stack([node.hidden for node in encoder.encode(paths)])
        return torch.tanh(F.linear(hidden, head)).squeeze(1).tolist()

    return PathScorer(
        PathTokens(checkpoint.tokenizer),
        ScoreLoop(score_paths, counters),
        model_id=checkpoint.model_id,
        context_tokens=checkpoint.shape.context_tokens,
        thread=runtime.compute,
    )
