"""Completions: what is asked of a model that continues a sequence of tokens, and what comes back.

The seam between a way of writing steps (the trained format, or few-shot prompting) and whatever runs the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from server.engines.protocols import Engine, Sampling
from server.engines.stats import EngineStats


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


class CompletingEngine:
    """`server.engines.protocols.Engine` by what it has of its completer, which it enters and leaves."""

    def __init__(self, completer: Completer) -> None:
        self._completer = completer

    @property
    def model_id(self) -> str:
        return self._completer.model_id

    @property
    def context_tokens(self) -> int:
        return self._completer.context_tokens

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self._completer.fault

    @property
    def stats(self) -> EngineStats:
        return self._completer.stats

    async def __aenter__(self) -> Self:
        await self._completer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._completer.__aexit__()
