"""The settings of one search: a frozen value, validated when made. Never read from files or the environment here."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

BEAM_WIDTH = 8
"""Default beam width of step beam, as in the published code."""


class Strategy(StrEnum):
    """How trajectories are made."""

    MCTS = "mcts"
    """Tree search guided by the PPM."""
    GREEDY = "greedy"
    """One trajectory of one candidate per step. The policy passed in decides greedily."""
    MAJORITY = "majority"
    """Independent trajectories of one sampled candidate per step."""
    BEST_OF_N = "best_of_n"
    """The same trajectories, of which the PPM chooses the best by its score of the whole."""
    STEP_BEAM = "step_beam"
    """PPM-guided beam search over steps: of all candidates of a level the best-scored go on."""


class TreePolicy(StrEnum):
    """How a rollout chooses among the children of a node (MCTS)."""

    UCT = "uct"
    """Value plus exploration, the same for all children (the paper's equation 1)."""
    PUCT = "puct"
    """Value plus exploration in proportion to the policy's probability of the step (AlphaZero's rule)."""


class Selection(StrEnum):
    """How the answer is chosen among finished trajectories."""

    WEIGHTED_VOTE = "weighted_vote"
    """The answer with the greatest sum of (1 + score) / 2 over the best-scored trajectories."""
    MAJORITY = "majority"
    """The answer of most trajectories; scores do not count."""
    BEST = "best"
    """The answer of the best-scored trajectory (the paper's choice)."""


class Values(StrEnum):
    """The value of a node before the first trajectory through it."""

    PPM = "ppm"
    """Its PPM score, which counts as one visit (PPM-augmented annotation)."""
    TERMINAL_GUIDED = "terminal_guided"
    """Nothing: no value and no visit; only ends of trajectories count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How the tree grows and how the answer is chosen; the budget is separate."""

    strategy: Strategy = Strategy.MCTS
    """How trajectories are made."""
    candidates: int = 8
    """Candidates proposed per expansion in MCTS and step beam: 8 in the paper's rounds 2 and 3 (5 and 16 before and
    after, 32 at test time)."""
    max_depth: int = 16
    """Steps below the root at most, the answer included (the paper's limit)."""
    exploration: float = 2.0
    """c of UCT (the paper's value), and of PUCT."""
    tree_policy: TreePolicy = TreePolicy.UCT
    """How a rollout chooses among children in MCTS."""
    parallel_rollouts: int = 1
    """Rollouts of one tree in flight at once in MCTS. With 1 the same request gives the same tree; more keep the
    engines busy for a lone user, and choose each next node knowing a little less."""
    beam_width: int = BEAM_WIDTH
    """Paths that step beam follows at once."""
    values: Values = Values.PPM
    """First value of a new node in MCTS."""
    selection: Selection | None = None
    """How the answer is chosen; None: weighted vote for MCTS and step beam, best for best of n, else majority."""
    top_k: int | None = 16
    """How many of the best-scored trajectories vote under `weighted_vote`; None: all. With 16, every trajectory of a
    short search votes. The worst-scored of a longer search, which UCT visits only to explore, do not."""
    stop_when_decided: bool = False
    """Stop with `converged` once no answer can overtake the leading one within the trajectories left."""
    stop_at_confidence: float | None = None
    """Stop with `converged` once the answer is this sure, in (0, 1); None: go on."""

    def __post_init__(self) -> None:
        for name in ("candidates", "max_depth", "parallel_rollouts", "beam_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.exploration) and self.exploration >= 0):
            raise ValueError(f"exploration must be a finite number from 0 up, not {self.exploration}")
        if self.stop_at_confidence is not None and not 0 < self.stop_at_confidence < 1:
            raise ValueError(f"stop_at_confidence must lie between 0 and 1, not at {self.stop_at_confidence}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None for all, not {self.top_k}")

    @property
    def answer_selection(self) -> Selection:
        """`selection`, or the strategy's own rule where it is None."""
        if self.selection is not None:
            return self.selection
        match self.strategy:
            case Strategy.MCTS | Strategy.STEP_BEAM:
                return Selection.WEIGHTED_VOTE
            case Strategy.BEST_OF_N:
                return Selection.BEST
            case Strategy.GREEDY | Strategy.MAJORITY:
                return Selection.MAJORITY
            case _:
                assert_never(self.strategy)
