"""The shape of every engine kind: one engine for the policy, one for the PPM, opened and watched alike.

An engine is heavy (weights, threads, processes or connections) and there is one of it; the *views* of a policy engine
are light, one for each way of drawing candidates, and all of them share its batch. Holds no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from search.protocols import Policy, StepScorer
from server.engines.errors import CheckpointError
from server.engines.stats import EngineStats


class EngineName(StrEnum):
    """Which of the two engines: the label `engine` of metrics and logs."""

    POLICY = "policy"
    """Proposes steps."""
    PPM = "ppm"
    """Scores paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a view of the policy draws candidates."""

    temperature: float = 1.0
    """0 is greedy: every candidate of a request is the same."""
    top_p: float = 1.0
    """Share of the probability mass that is drawn from."""
    max_step_tokens: int = 256
    """Longer candidates are cut off."""

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_step_tokens < 1:
            raise ValueError(
                "expected temperature >= 0, 0 < top_p <= 1 and max_step_tokens >= 1, "
                f"got {self.temperature}, {self.top_p} and {self.max_step_tokens}"
            )


class Engine(Protocol):
    """One model at work. Entering starts it and waits until it can serve; leaving ends all of it, whatever it holds.

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
        """Why it cannot serve now, in a sentence for the operator; None while all is well. Asked often: never waits."""
        ...

    @property
    def stats(self) -> EngineStats:
        """Totals and levels, for an exporter."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class PolicyEngine(Engine, Protocol):
    """The policy's model."""

    def policy(self, sampling: Sampling) -> Policy:
        """A view that draws so; costs nothing, lives as long as the engine. Its calls raise `EngineError`."""
        ...

    def prompt_tokens(self, problem: str) -> int:
        """Length of a problem as the model reads it."""
        ...


class ScorerEngine(Engine, StepScorer, Protocol):
    """The PPM's model; it has only one view, itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The engines of one process: the same to whoever uses them, whatever kind they are of."""

    policy: PolicyEngine
    ppm: ScorerEngine

    def named(self) -> Mapping[EngineName, Engine]:
        return {EngineName.POLICY: self.policy, EngineName.PPM: self.ppm}

    def faults(self) -> Mapping[EngineName, str]:
        """The engines that cannot serve now, and why."""
        faults = {name: engine.fault for name, engine in self.named().items()}
        return {name: fault for name, fault in faults.items() if fault is not None}

    def check_room(self, max_step_tokens: int) -> None:
        """Raise `CheckpointError` where no problem fits beside a step. To be asked when the policy was entered: only
        then is it known how much of a model's context a remote server serves."""
        if self.policy.context_tokens <= max_step_tokens:
            raise CheckpointError(
                f"{self.policy.model_id}: a context of {self.policy.context_tokens} tokens has no room for a problem "
                f"and a step of {max_step_tokens}; lower RSTAR_MAX_STEP_TOKENS"
            )

    def stats(self) -> Mapping[EngineName, EngineStats]:
        return {name: engine.stats for name, engine in self.named().items()}
