"""The settings of one search: frozen values, validated when made. Never read from files or the environment here."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

BEAM_WIDTH = 8
"""Default beam width of step beam, as in the published code."""
LARGEST_COEFFICIENT = 1e6
"""Fits have coefficients of about 1. So far above it there is no fit, and sums might overflow."""
ALMOST_CERTAIN = math.nextafter(1.0, 0.0)
"""The greatest confidence."""


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
class Calibration:
    """Turns the vote share of an answer into a confidence that was fitted to outcomes (Platt's logistic fit).

        confidence = sigmoid(scale * logit(share) + budget_slope * ln(trajectories) + offset)

    Of the answers with confidence 0.8, about 80 % were right on the problems of the fit. That holds for the models, the
    strategy and the selection of the fit. With 1, 0, 0 the confidence is the share.
    """

    scale: float
    """How much the share counts; from 0 up, so that a larger share never means a smaller confidence."""
    budget_slope: float
    """How much the number of trajectories counts: the same share says more, or less, after many."""
    offset: float
    strategy: Strategy = Strategy.MCTS
    """The strategy of the fit."""
    selection: Selection = Selection.WEIGHTED_VOTE
    """The selection of the fit."""

    def __post_init__(self) -> None:
        for name in ("scale", "budget_slope", "offset"):
            if not abs(getattr(self, name)) <= LARGEST_COEFFICIENT:  # also where it is not a number
                raise ValueError(
                    f"{name} must lie within ±{LARGEST_COEFFICIENT:g}, not at {getattr(self, name)}: fit it again"
                )
        if self.scale < 0:
            raise ValueError(f"scale must be at least 0, not {self.scale}: fit it again")

    def confidence(self, share: float, *, trajectories: int) -> float:
        """The confidence after so many trajectories, in [0, 1); 0 where the share is 0. `share` lies in [0, 1)."""
        if share <= 0.0:
            return 0.0
        logit = math.log(share) - math.log1p(-share)
        total = self.scale * logit + self.budget_slope * math.log(max(1, trajectories)) + self.offset
        # Each branch keeps the exponent below 0, so that it cannot overflow.
        fitted = 1.0 / (1.0 + math.exp(-total)) if total >= 0 else math.exp(total) / (1.0 + math.exp(total))
        return min(fitted, ALMOST_CERTAIN)


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
    """Stop with `converged` once the confidence is this high, in (0, 1); None: go on. The confidence is the fitted one
    where there is a calibration."""
    calibration: Calibration | None = None
    """The fit of the confidence; None: the confidence is the vote share. Must be of this strategy and selection."""

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
        if self.calibration is not None and not self._is_fitted_by(self.calibration):
            raise ValueError(
                f"the confidence of {self.strategy} with {self.answer_selection} needs a calibration of its own, not "
                f"one of {self.calibration.strategy} with {self.calibration.selection}"
            )

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

    def calibrated(self, calibration: Calibration | None) -> "SearchConfig":
        """With the calibration, where it was fitted for this strategy and selection; else unchanged."""
        if calibration is None or not self._is_fitted_by(calibration):
            return self
        return replace(self, calibration=calibration)

    def _is_fitted_by(self, calibration: Calibration) -> bool:
        return (calibration.strategy, calibration.selection) == (self.strategy, self.answer_selection)
