"""Pooling: how vLLM is asked for a score, and how its numbers become a score in [-1, 1].

The same for vLLM beside this server and for a vLLM server elsewhere. Example: a process reward model gives two
probabilities per step, wrong 0.1 and right 0.9 for the last one; the path's score is 2 * 0.9 - 1 = 0.8.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search import Path, PathTooLong
from server.engines.rendering import PathRendering


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """One kind of reward model, as vLLM runs it."""

    task: str
    """vLLM's name for what the model computes."""
    use_activation: bool
    """Whether vLLM is to make probabilities of the raw numbers."""
    width: int
    """Numbers in each row of the answer."""
    score: Callable[[Sequence[float]], float]
    """The score of a path, from the last row of its answer."""


RAW_SCORE = Pooling(task="classify", use_activation=False, width=1, score=lambda row: math.tanh(row[0]))
"""A `*ForSequenceClassification` model with one label: one row, the raw score at the last token."""
STEP_PROBABILITY = Pooling(task="token_classify", use_activation=True, width=2, score=lambda row: 2 * row[1] - 1)
"""A `Qwen2ForProcessRewardModel`: a row at each step separator, the probabilities of a wrong and of a right step."""


def prompts_within(context_tokens: int, paths: Sequence[Path], rendering: PathRendering) -> Sequence[tuple[int, ...]]:
    """The paths as a PPM reads them. Raises `PathTooLong`."""
    prompts = [rendering.token_ids(path) for path in paths]
    longest = max(map(len, prompts), default=0)
    if longest > context_tokens:
        raise PathTooLong(f"a path has {longest} tokens, the PPM's context {context_tokens}")
    return prompts
