"""Solutions: what a solver gives for one problem, with the answers that it had on the way. Grades nothing.

A `Recorder` listens to the events of one search, in this process or streamed by a server. With one rollout at a time,
the answer after trajectory k of a long run is that of a run of k trajectories: each vote is counted before the next
rollout begins. So one run gives the answers of all smaller budgets.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, assert_never

from search import (
    AnswerChanged,
    AnswerEquality,
    Budget,
    Event,
    NodeAdded,
    NodeId,
    SearchStarted,
    StopReason,
    TrajectoryFinished,
)


class Method(StrEnum):
    """The methods that are compared."""

    GREEDY = "greedy"
    """One trajectory, the likeliest token each time: the paper's pass@1."""
    MAJORITY = "majority"
    """Independent sampled trajectories and a plain vote."""
    BEST_OF_N = "best_of_n"
    """The same trajectories; the PPM chooses the best."""
    STEP_BEAM = "step_beam"
    """PPM-guided beam search over steps."""
    MCTS_CONSTANT = "mcts_constant"
    """The search of `mcts` with a PPM that knows nothing."""
    MCTS = "mcts"
    """PPM-guided tree search."""


SAMPLED = frozenset({Method.MAJORITY, Method.BEST_OF_N})
"""Methods whose trajectories are independent of each other."""

GUIDED = frozenset({Method.BEST_OF_N, Method.STEP_BEAM, Method.MCTS})
"""Methods that need a PPM."""

Scores = tuple[float | None, ...]
"""PPM scores of the steps of a path, from the first; None where the PPM was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where the search stood right after a trajectory."""

    own: str | None
    """The answer of the trajectory itself; None where it failed."""
    scores: Scores
    answer: str | None
    """The best so far."""
    confidence: float
    tokens: int | None
    """Generated so far; None where the solver cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """One method on one problem."""

    answer: str | None
    confidence: float
    moments: tuple[Moment, ...]
    """One for each trajectory; empty where events were missed."""
    stop_reason: StopReason
    trajectories: int
    tokens: int
    code_steps: int
    seconds: float
    """From the call to the result; other searches ran at the same time."""


class Solver(Protocol):
    """Solves problems. May be called for many problems at once."""

    @property
    def methods(self) -> frozenset[Method]:
        """What it can do."""
        ...

    async def solve(self, question: str, method: Method, *, budget: Budget, seed: int) -> Solution:
        """Solve one problem, with one rollout at a time. Exceptions mean that the solver is broken."""
        ...


class OpenSolver(NamedTuple):
    """A solver, and the answer checker that its answers are graded with."""

    solver: Solver
    equality: AnswerEquality


class SolverSource(Protocol):
    """Opens a solver in a worker process; can be pickled."""

    def open(self) -> AbstractAsyncContextManager[OpenSolver]:
        """Open until the context ends."""
        ...

    def about(self) -> dict[str, Any]:
        """Names what is measured. Two sources with the same names give the same solver."""
        ...


@dataclass(slots=True)
class Recorder:
    """Takes the events of one search in order; `tokens` says what has been generated so far."""

    tokens: Callable[[], int | None]
    _moments: list[Moment] = field(default_factory=list[Moment])
    _scores: dict[NodeId, Scores] = field(default_factory=lambda: {NodeId(0): ()})
    _has_missed: bool = False

    @property
    def moments(self) -> tuple[Moment, ...]:
        """All so far; none where an event is missing, since a later answer would be taken for an earlier one."""
        return () if self._has_missed else tuple(self._moments)

    def __call__(self, event: Event) -> None:
        """Add the event."""
        match event:
            case SearchStarted():
                pass
            case NodeAdded():
                self._add_node(event)
            case TrajectoryFinished():
                self._add_trajectory(event)
            case AnswerChanged():
                if self._moments:
                    self._moments[-1] = replace(self._moments[-1], answer=event.answer, confidence=event.confidence)
            case _:
                assert_never(event)

    def _add_node(self, event: NodeAdded) -> None:
        if event.node_id != len(self._scores) or event.parent not in self._scores:
            self._has_missed = True
            return
        self._scores[event.node_id] = (*self._scores[event.parent], event.score)

    def _add_trajectory(self, event: TrajectoryFinished) -> None:
        if event.index != len(self._moments) or event.node_id not in self._scores:
            self._has_missed = True
            return
        before = self._moments[-1] if self._moments else None
        self._moments.append(
            Moment(
                own=event.answer,
                scores=self._scores[event.node_id],
                answer=None if before is None else before.answer,
                confidence=0.0 if before is None else before.confidence,
                tokens=self.tokens(),
            )
        )
