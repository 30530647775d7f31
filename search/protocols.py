"""The seams of the search: what it asks of models, sandbox and answer checker, as typed Protocols.

Implementations live outside: `server.engines`, `server.parts.runner` and `server.answers.equality`.
A bad candidate, step or answer is a typed value here. An exception from any of these methods means that the part
itself is broken, and ends the search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from search.outcomes import CandidateStop, ExecutionOutcome, Verdict

Snapshot = NewType("Snapshot", str)
"""Names the interpreter state after a step, within one `CodeRunner`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep:
    """One accepted step of a path, as the models see it."""

    text: str
    """The policy's text, without the stop token."""
    token_ids: tuple[int, ...]
    """The policy's own tokens, stop token included; never re-tokenised."""
    stop: CandidateStop
    output: str | None = None
    """The program's output, shown to the models after a step that ends the code; None elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A problem and the steps taken so far, from the root down."""

    problem: str
    steps: tuple[PathStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposed next step."""

    text: str
    """Without the stop token."""
    token_ids: tuple[int, ...]
    """Stop token included; its length is the token count charged to the budget."""
    logprob: float
    """Sum of the natural log-probabilities of `token_ids` under the sampling distribution at temperature 1."""
    stop: CandidateStop


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What the sandbox made of one code step."""

    outcome: ExecutionOutcome
    stdout: str = ""
    """Exactly what the step printed, up to the output cap."""
    value: str | None = None
    """`repr` of the step's last expression, if it ends in one and the value is not None."""
    error: str | None = None
    """`Type: message` when the step raised; the reason in words for other failures."""
    cpu_seconds: float = 0.0
    snapshot: Snapshot | None = None
    """The state after the step; None unless the outcome is ok."""


class Policy(Protocol):
    """Proposes next steps."""

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """Sample `n` candidates for the step after `path`; the same arguments give the same candidates.

        Cancelling the call aborts the generation. Raises `PathTooLong` when the path leaves no room for a step.
        """
        ...


class StepScorer(Protocol):
    """The process preference model."""

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score in [-1, 1] per path (tanh of the scalar head at the last token), in order.

        Raises `PathTooLong` when one of them is longer than the model's context.
        """
        ...


class CodeRunner(Protocol):
    """Runs code steps for one search tree."""

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """Run `code` in the state named by `parent` (None: a fresh interpreter), leaving that state unchanged."""
        ...


class AnswerEquality(Protocol):
    """Decides whether two answers are the same mathematical object."""

    async def same(self, a: str, b: str) -> Verdict:
        """Symmetric; `same(a, a)` is SAME for every string."""
        ...


class PathTooLong(Exception):
    """The path leaves no room for another step in the model's context."""
