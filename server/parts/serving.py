"""Serving parts: the parts that the searches of one server call. Opened once for all searches, but not here."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from sandbox import Status
from search import AnswerEquality, Calibration, CodeRunner, Policy, StepScorer
from server.engines.protocols import EngineName, EngineStats, Sampling


class Part(StrEnum):
    """A part of the server. All of them must work before it can solve a problem."""

    POLICY = "policy"
    """The model that proposes steps."""
    PPM = "ppm"
    """The model that scores the path so far."""
    SANDBOX = "sandbox"
    """It runs the code of the steps."""
    EQUALITY = "equality"
    """The answer checker, which compares answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIds:
    """Name and content hash of each model."""

    policy: str
    ppm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingParts:
    """The parts, open and working. `faults` says what has failed since."""

    policy: Callable[[Sampling], Policy]
    """A view of the policy with this sampling. Making one costs nothing."""
    scorer: StepScorer
    equality: AnswerEquality
    open_runner: Callable[[int], AbstractAsyncContextManager[CodeRunner]]
    """A runner for one search, given the seed of the search. Leaving ends all processes of the runner."""
    prompt_tokens: Callable[[str], int]
    """The length of a problem as the policy reads it."""
    max_prompt_tokens: int
    """The longest problem that leaves room for one step in the policy's context."""
    models: ModelIds
    faults: Callable[[], Mapping[Part, str]]
    """The parts that do not work now, and why. Empty while all parts work."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What shapes their results beside the models: the prompt, the kinds of engine, the limits of the sandbox."""
    calibration: Calibration | None = None
    """The fit of the confidence for these models; None where there is none."""
    engine_stats: Callable[[], Mapping[EngineName, EngineStats]] = dict
    """Totals and levels of each engine, for the metrics."""
    sandbox_status: Callable[[], Status | None] = lambda: None
    """The state of the sandbox. None if steps run elsewhere."""
    equality_restarts: Callable[[], int] = lambda: 0
    """How many processes of the answer checker were replaced."""


class PartsUnavailable(Exception):
    """A part cannot be opened. The message is one sentence for the operator."""


OpenParts = Callable[[Callable[[Part], None]], AbstractAsyncContextManager[ServingParts]]
"""Opens the parts and reports each one that works. Leaving closes them. Raises `PartsUnavailable`."""
