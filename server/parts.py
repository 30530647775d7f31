"""Parts: what a server solves with. Opened once, for all searches; says nothing of how."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum

from search import AnswerEquality, CodeRunner, Policy, StepScorer
from server.schemas import Models


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
class ServingParts:
    """Everything opened and working; `faults` tells what has broken since."""

    policy: Policy
    greedy_policy: Policy
    """The same model, decoded without sampling."""
    scorer: StepScorer
    equality: AnswerEquality
    open_runner: Callable[[int], AbstractAsyncContextManager[CodeRunner]]
    """A runner for one search, by its seed; leaving ends every process of it."""
    prompt_tokens: Callable[[str], int]
    """Length of a problem as the policy reads it."""
    max_prompt_tokens: int
    """What the policy's context holds besides one step."""
    models: Models
    faults: Callable[[], Mapping[Part, str]]
    """The parts that do not work any more, and why; empty while all is well."""


class PartsUnavailable(Exception):
    """A part cannot be opened; the message is one sentence for the operator."""


OpenParts = Callable[[Callable[[Part], None]], AbstractAsyncContextManager[ServingParts]]
"""Opens the parts, reporting each that is up; leaving closes them. Raises `PartsUnavailable`."""
