"""The parts a search works with: models, runner and judges, handed in by the caller. Never made or closed here."""

from dataclasses import dataclass
from typing import Protocol, assert_never

from search.config import SearchConfig, Selection, Strategy, Values
from search.protocols import AnswerEquality, CodeRunner, Policy, StepScorer
from search.tape import Tape


class Judge(Protocol):
    """Knows the right answer: used for making training data, never when serving."""

    async def value(self, answer: str) -> float:
        """+1 if `answer` is right, -1 if it is wrong."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one search asks its questions of."""

    policy: Policy
    runner: CodeRunner
    """Keeps the interpreter states of this search alone."""
    equality: AnswerEquality
    scorer: StepScorer | None = None
    """Needed by MCTS unless values are terminal-guided and a judge is there; by step beam, best of n and
    `selection=best`; else optional."""
    judge: Judge | None = None
    """Gives terminal values when there is one; final answers are then not scored by the PPM in MCTS. Without it the
    terminal value is the PPM score."""
    tape: Tape | None = None
    """Records the search, or plays one back."""


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
    """Whether answer steps are scored: MCTS wants a terminal value, step beam and best of n choose by the score."""
    match config.strategy:
        case Strategy.MCTS:
            return parts.judge is None
        case Strategy.STEP_BEAM | Strategy.BEST_OF_N:
            return True
        case Strategy.GREEDY | Strategy.MAJORITY:
            return parts.scorer is not None and config.answer_selection is not Selection.MAJORITY
        case _:
            assert_never(config.strategy)


def check_parts(config: SearchConfig, parts: Parts) -> None:
    """Raise ValueError where the search would need a scorer that is not there."""
    if parts.scorer is not None:
        return
    if config.strategy is Strategy.MCTS and (scores_steps(config) or scores_answers(config, parts)):
        raise ValueError("mcts needs a scorer, unless values are terminal_guided and a judge is given")
    if config.strategy in (Strategy.STEP_BEAM, Strategy.BEST_OF_N):
        raise ValueError(f"{config.strategy} needs a scorer: the PPM chooses")
    if config.answer_selection is Selection.BEST:
        raise ValueError("selection best needs a scorer; majority does without")
