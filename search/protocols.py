"""The parts of a search as typed Protocols (policy, PPM, sandbox, answer checker, judge), and the values they exchange.

Implementations live outside: `server.engines`, `server.parts.runner` and `server.answers.equality`, with fakes in
`search.testing.fakes`. A bad candidate, step or answer is a typed value here. An exception from one of these methods
means that the part itself is broken, and ends the search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol, assert_never

from search.config import SearchConfig, Selection, Strategy, Values
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
    """The result of running one code step in the sandbox."""

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
    """Proposes next steps.

    await policy.propose(Path(problem="What is 2 + 3?"), 2, seed=7)
    # two candidates, with texts such as "\\n# Add the numbers.\\ntotal = 2 + 3\\n" and "\\nprint(2 + 3)\\n"
    """

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """Sample `n` candidates for the step after `path`; the same arguments give the same candidates.

        Cancelling the call aborts the generation. Raises `PathTooLong` when the path leaves no room for a step.
        """
        ...


class StepScorer(Protocol):
    """The process preference model (PPM).

    await scorer.score([good_path, bad_path])  # [0.83, -0.41]
    """

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score in [-1, 1] per path (tanh of the scalar head at the last token), in order.

        Raises `PathTooLong` when one of them is longer than the model's context.
        """
        ...


class CodeRunner(Protocol):
    """Runs the code steps of one search tree.

    first = await runner.run(None, "total = 2 + 3")
    second = await runner.run(first.snapshot, "print(total)")
    second.stdout  # "5\\n"
    """

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        """Run `code` in the state named by `parent` (None: a fresh interpreter), leaving that state unchanged."""
        ...


class AnswerEquality(Protocol):
    """Decides whether two answers are the same mathematical object.

    await equality.same("1/2", "0.5")  # Verdict.SAME
    """

    async def same(self, a: str, b: str) -> Verdict:
        """Symmetric; `same(a, a)` is SAME for every string."""
        ...


class Judge(Protocol):
    """Knows the right answer: used for making training data, never when serving.

    await judge.value("5")  # 1.0
    """

    async def value(self, answer: str) -> float:
        """+1 if `answer` is right, -1 if it is wrong."""
        ...


class PathTooLong(Exception):
    """The path leaves no room for another step in the model's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one search. The caller makes and closes them."""

    policy: Policy
    runner: CodeRunner
    """Keeps the interpreter states of this search alone."""
    equality: AnswerEquality
    scorer: StepScorer | None = None
    """Needed by step beam, best of n and `selection=best`, and by MCTS unless values are terminal-guided and there is
    a judge; else optional."""
    judge: Judge | None = None
    """Gives terminal values when there is one; final answers are then not scored by the PPM in MCTS. Without it the
    terminal value is the PPM score."""


def check_parts(config: SearchConfig, parts: Parts) -> None:
    """Raise ValueError where the search needs a scorer and has none."""
    if parts.scorer is not None:
        return
    if config.strategy is Strategy.MCTS and (scores_steps(config) or scores_answers(config, parts)):
        raise ValueError("mcts needs a scorer, unless values are terminal_guided and a judge is given")
    if config.strategy in (Strategy.STEP_BEAM, Strategy.BEST_OF_N):
        raise ValueError(f"{config.strategy} needs a scorer: the PPM chooses")
    if config.answer_selection is Selection.BEST:
        raise ValueError("selection best needs a scorer; majority does without")


def scores_steps(config: SearchConfig) -> bool:
    """Whether steps before the answer are scored (and so given a prior)."""
    match config.strategy:
        case Strategy.MCTS:
            return config.values is Values.PPM
        case Strategy.STEP_BEAM:
            return True
        case Strategy.GREEDY | Strategy.MAJORITY | Strategy.BEST_OF_N:
            return False
        case _:
            assert_never(config.strategy)


def scores_answers(config: SearchConfig, parts: Parts) -> bool:
    """Whether answer steps are scored: MCTS needs a terminal value, step beam and best of n choose by the score."""
    match config.strategy:
        case Strategy.MCTS:
            return parts.judge is None
        case Strategy.STEP_BEAM | Strategy.BEST_OF_N:
            return True
        case Strategy.GREEDY | Strategy.MAJORITY:
            return parts.scorer is not None and config.answer_selection is not Selection.MAJORITY
        case _:
            assert_never(config.strategy)
