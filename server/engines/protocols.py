"""The interface of every kind of engine: its Protocol, the ways to sample, and its counters.

There is one engine for the policy and one for the PPM. Both are opened and watched in the same way. An engine is heavy:
it holds weights, threads, processes or connections. The *views* of a policy engine are light: there is one for each way
of sampling, and all of them share its batch. Holds no model.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from search import StepScorer
from server.engines.errors import CheckpointError

if TYPE_CHECKING:
    from server.engines.policy import PolicyEngine

BATCH_SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Powers of two up to the largest useful batch: one bucket per doubling of the throughput curve."""


class EngineName(StrEnum):
    """Which of the two engines: the label `engine` of metrics and logs."""

    POLICY = "policy"
    """Proposes steps."""
    PPM = "ppm"
    """Scores paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a view of the policy samples candidates."""

    temperature: float = 1.0
    """0 is greedy: every candidate of a request is the same."""
    top_p: float = 1.0
    """Share of the probability mass that is sampled from."""
    max_step_tokens: int = 256
    """Longer candidates are cut off."""

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_step_tokens < 1:
            raise ValueError(
                "expected temperature >= 0, 0 < top_p <= 1 and max_step_tokens >= 1, "
                f"got {self.temperature}, {self.top_p} and {self.max_step_tokens}"
            )


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """Totals since the engine was made, and how full it is."""

    requests: int = 0
    """Calls accepted."""
    aborted: int = 0
    """Calls whose caller left before the end."""
    forward_passes: int = 0
    """Runs of the model, over path tokens or over a decoding batch."""
    tokens_generated: int = 0
    """Tokens sampled, those of aborted calls included."""
    tokens_aborted: int = 0
    """Of these, those known to be of aborted calls; vLLM and remote servers do not report them."""
    tokens_encoded: int = 0
    """Path tokens run through the model."""
    tokens_reused: int = 0
    """Path tokens whose keys and values were already held."""
    batch_size_counts: list[int] = field(default_factory=lambda: [0] * (len(BATCH_SIZE_BOUNDS) + 1))
    """Batches per bucket of `BATCH_SIZE_BOUNDS` (upper bounds, inclusive), the last one unbounded."""
    batch_size_sum: int = 0
    """Sum of the batch sizes: sequences of a decoding step, paths of a scoring batch."""
    running: int = 0
    """Sequences or paths in the batch now."""
    waiting: int = 0
    """Sequences or paths that wait for a place in it."""
    in_flight: int = 0
    """Calls that were accepted and not answered. Counted by vLLM and remote engines only."""

    @contextmanager
    def calling(self) -> Generator[None]:
        """Wraps one call: counts it, and whether its caller left before the end."""
        self.requests += 1
        self.in_flight += 1
        try:
            yield
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.in_flight -= 1

    def observe_batch(self, size: int) -> None:
        """Count one batch of `size`."""
        self.batch_size_counts[bisect_left(BATCH_SIZE_BOUNDS, size)] += 1
        self.batch_size_sum += size

    def snapshot(self) -> "EngineStats":
        """A copy, which changes no more."""
        return replace(self, batch_size_counts=list(self.batch_size_counts))


def total(parts: Sequence[EngineStats]) -> EngineStats:
    """The total of an engine that counts in several places."""
    return EngineStats(
        requests=sum(part.requests for part in parts),
        aborted=sum(part.aborted for part in parts),
        forward_passes=sum(part.forward_passes for part in parts),
        tokens_generated=sum(part.tokens_generated for part in parts),
        tokens_aborted=sum(part.tokens_aborted for part in parts),
        tokens_encoded=sum(part.tokens_encoded for part in parts),
        tokens_reused=sum(part.tokens_reused for part in parts),
        batch_size_counts=[sum(counts) for counts in zip(*(part.batch_size_counts for part in parts), strict=True)],
        batch_size_sum=sum(part.batch_size_sum for part in parts),
        running=sum(part.running for part in parts),
        waiting=sum(part.waiting for part in parts),
        in_flight=sum(part.in_flight for part in parts),
    )


class Engine(Protocol):
    """One model at work. Entering starts it and waits until it can serve; leaving ends all of it and frees everything.

    Entering raises `EngineError` where it cannot be started.
    """

    @property
    def model_id(self) -> str:
        """Names the model's content."""
        ...

    @property
    def context_tokens(self) -> int:
        """The longest sequence served."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it cannot serve now, in a sentence for the operator; None while it can. Called often: never waits."""
        ...

    @property
    def stats(self) -> EngineStats:
        """Totals and levels, for an exporter."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class ScorerEngine(Engine, StepScorer, Protocol):
    """The PPM's model; it has only one view, itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The engines of one process. All kinds of engines have this interface."""

    policy: "PolicyEngine"
    ppm: ScorerEngine

    def check_room(self, max_step_tokens: int) -> None:
        """Raise `CheckpointError` where no problem fits beside a step. Call it when the policy was entered: only
        then is it known how much of a model's context a remote server serves."""
        if self.policy.context_tokens <= max_step_tokens:
            raise CheckpointError(
                f"{self.policy.model_id}: a context of {self.policy.context_tokens} tokens has no room for a problem "
                f"and a step of {max_step_tokens}; lower RSTAR_MAX_STEP_TOKENS"
            )

    def stats(self) -> Mapping[EngineName, EngineStats]:
        return {EngineName.POLICY: self.policy.stats, EngineName.PPM: self.ppm.stats}
