"""Parts: what a server solves with. Opened once, for all searches; says nothing of how."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from sandbox import Status
from search import AnswerEquality, CodeRunner, Policy, StepScorer
from server.engines.protocols import EngineName, Sampling
from server.engines.stats import EngineStats


class Part(StrEnum):
    """What has to work before a problem can be solved."""

    POLICY = "policy"
    """The model that proposes steps."""
    PPM = "ppm"
    """The model that scores them."""
    SANDBOX = "sandbox"
    """Runs their code."""
    EQUALITY = "equality"
    """Compares answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIds:
    """Name and content hash of each model."""

    policy: str
    ppm: str


def _no_stats() -> Mapping[EngineName, EngineStats]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingParts:
    """Everything opened and working; `faults` tells what has broken since."""

    policy: Callable[[Sampling], Policy]
    """A view of the policy that samples candidates so; costs nothing."""
    scorer: StepScorer
    equality: AnswerEquality
    open_runner: Callable[[int], AbstractAsyncContextManager[CodeRunner]]
    """A runner for one search, by its seed; leaving ends every process of it."""
    prompt_tokens: Callable[[str], int]
    """Length of a problem as the policy reads it."""
    max_prompt_tokens: int
    """What the policy's context holds besides one step."""
    models: ModelIds
    faults: Callable[[], Mapping[Part, str]]
    """The parts that do not work now, and why; empty while all is well."""
    engine_stats: Callable[[], Mapping[EngineName, EngineStats]] = field(default=_no_stats)
    """Totals and levels of each engine, for an exporter."""
    sandbox_status: Callable[[], Status | None] = lambda: None
    """What the sandbox is and does now; None where steps run elsewhere."""
    equality_restarts: Callable[[], int] = lambda: 0
    """How often a process of the answer checker was replaced."""


class PartsUnavailable(Exception):
    """A part cannot be opened; the message is one sentence for the operator."""


OpenParts = Callable[[Callable[[Part], None]], AbstractAsyncContextManager[ServingParts]]
"""Opens the parts, reporting each that is up; leaving closes them. Raises `PartsUnavailable`."""
