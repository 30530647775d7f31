"""Hand-made attempts for tests of figures, summaries and reports."""

from collections.abc import Sequence

from search import StopReason
from training.evaluation.attempts import Attempt, Attempts, Paths, Point
from training.evaluation.solutions import Method


def an_attempt(
    problem: str = "a/0",
    method: Method = Method.MCTS,
    *,
    right_from: int | None = 1,
    confidence: float = 0.5,
    budgets: Sequence[int] = (1, 2, 4),
    tokens: int = 100,
    right: int | None = None,
    paths: Paths = (),
    answer: str | None = "7",
) -> Attempt:
    """An attempt that is right from so many trajectories on; None: never."""

    def is_right(trajectories: int) -> bool:
        return right_from is not None and trajectories >= right_from

    most = budgets[-1]
    points = [
        Point(
            trajectories=budget,
            is_right=is_right(budget),
            has_answer=answer is not None,
            confidence=confidence,
            any_right=is_right(budget),
            tokens=tokens * budget // most,
        )
        for budget in budgets
    ]
    return Attempt(
        problem_id=problem,
        group=problem.partition("/")[0],
        method=method,
        answer=answer,
        is_right=is_right(most),
        confidence=confidence,
        any_right=is_right(most),
        right_trajectories=right if right is not None else int(is_right(most)),
        trajectories=most,
        tokens=tokens,
        code_steps=10,
        seconds=0.5,
        stop_reason=StopReason.BUDGET,
        curve=tuple(points) if method is not Method.GREEDY else (),
        paths=paths,
    )


def measured(*attempts: Attempt) -> dict[str, Attempts]:
    """The attempts by problem and method."""
    found: dict[str, dict[Method, Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.problem_id, {})[attempt.method] = attempt
    return dict(found)
