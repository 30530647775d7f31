"""Completions: what is asked of a model that continues a sequence of tokens, and what comes back.

The seam between a way of writing steps (the trained format, or few-shot prompting) and whatever runs the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.engines.protocols import Engine, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """`n` continuations of one prompt."""

    prompt: tuple[int, ...]
    n: int
    seed: int
    """Decides all samples of the request; requests with different seeds share none."""
    sampling: Sampling
    max_tokens: int
    """At least 1; prompt and continuation together fit the model's context."""
    stop_token_ids: tuple[int, ...] = ()
    """A continuation ends with the first of them, and keeps it."""
    stop_strings: tuple[str, ...] = ()
    """A continuation ends with the token that completes the first of them, and keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One continuation."""

    token_ids: tuple[int, ...]
    """Everything sampled, whatever ended it included."""
    logprob: float
    """Sum of the natural log-probabilities at temperature 1."""


class Completer(Engine, Protocol):
    """An engine that continues prompts, whatever they say."""

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """`n` completions. Cancelling the call stops the model. Raises `EngineError`."""
        ...
