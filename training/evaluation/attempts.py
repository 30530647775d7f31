"""Attempts: graded solutions, and what they say about smaller budgets. Pure; records are JSON objects.

One record holds every method's attempt at one problem:

    {"problem": "gcd/test/7", "group": "gcd", "attempts": [{"method": "mcts", "is_right": true, …}, …]}
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

from search import StopReason
from training.evaluation.solutions import SAMPLED, Method, Solution

Paths = tuple[tuple[bool, tuple[float, ...]], ...]
"""For each trajectory whose steps were scored: whether it is right, and the PPM scores from the first step on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What the method would have given for a smaller budget."""

    trajectories: int
    is_right: bool
    """The answer at this point is right."""
    has_answer: bool
    confidence: float
    any_right: bool
    """Some trajectory so far is right: a perfect choice among them would be."""
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One method on one problem."""

    problem_id: str
    group: str
    method: Method
    answer: str | None
    is_right: bool
    confidence: float
    any_right: bool
    """Some trajectory is right."""
    right_trajectories: int | None
    """How many are; None where the solver did not see each of them."""
    trajectories: int
    tokens: int
    code_steps: int
    seconds: float
    stop_reason: StopReason
    curve: tuple[Point, ...] = ()
    """By trajectories, ascending; the last point is the whole attempt."""
    paths: Paths = ()

    def at(self, trajectories: int) -> Point | None:
        """The point of the curve with this many trajectories; None where there is none."""
        return next((point for point in self.curve if point.trajectories == trajectories), None)


Attempts = Mapping[Method, Attempt]
"""The attempts at one problem."""


def budgets(trajectories: int) -> list[int]:
    """1, 2, 4, … up to `trajectories`, which is always the last."""
    powers = [2**power for power in range(trajectories.bit_length()) if 2**power < trajectories]
    return [*powers, trajectories]


def answers_of(solution: Solution) -> list[str]:
    """Every answer that has to be graded, each once."""
    given = [solution.answer, *(moment.own for moment in solution.moments)]
    given += [moment.answer for moment in solution.moments]
    return list(dict.fromkeys(answer for answer in given if answer is not None))


def graded(
    solution: Solution, *, problem_id: str, group: str, method: Method, right: frozenset[str], at: Sequence[int]
) -> Attempt:
    """The attempt; `right` holds the right ones of its answers, and the curve has its points `at` these budgets."""
    moments = solution.moments
    own = [moment.own in right for moment in moments]
    is_right = solution.answer in right
    return Attempt(
        problem_id=problem_id,
        group=group,
        method=method,
        answer=solution.answer,
        is_right=is_right,
        confidence=solution.confidence,
        any_right=any(own) or is_right,
        right_trajectories=sum(own) if len(moments) == solution.trajectories else None,
        trajectories=solution.trajectories,
        tokens=solution.tokens,
        code_steps=solution.code_steps,
        seconds=solution.seconds,
        stop_reason=solution.stop_reason,
        curve=_curve(solution, own, method=method, right=right, at=at),
        paths=_paths(solution, own) if method is Method.MCTS else (),
    )


def _curve(
    solution: Solution, own: Sequence[bool], *, method: Method, right: frozenset[str], at: Sequence[int]
) -> tuple[Point, ...]:
    """A search that found nothing new before its budget was spent would have ended there with more budget too."""
    moments = solution.moments
    if method is Method.STEP_BEAM or not moments:  # a round of several trajectories is counted as a whole
        return ()
    points: list[Point] = []
    for budget in at:
        if budget > len(moments) and solution.stop_reason is not StopReason.EXHAUSTED:
            break
        count = min(budget, len(moments))
        moment = moments[count - 1]
        points.append(
            Point(
                trajectories=budget,
                is_right=moment.answer in right,
                has_answer=moment.answer is not None,
                confidence=moment.confidence,
                any_right=any(own[:count]),
                tokens=moment.tokens,
            )
        )
    return tuple(points)


def _paths(solution: Solution, own: Sequence[bool]) -> Paths:
    paths: list[tuple[bool, tuple[float, ...]]] = []
    for moment, is_right in zip(solution.moments, own, strict=True):
        scores = tuple(round(score, 4) for score in moment.scores if score is not None)
        if scores:
            paths.append((is_right, scores))
    return tuple(paths)


def pass_at_k(attempt: Attempt, k: int) -> float | None:
    """The chance that at least one of k trajectories is right; None where the attempt does not tell.

    Trajectories that are independent of each other: the unbiased estimator over all choices of k of them. Those of a
    search build on each other: whether the first k hold a right one.
    """
    if attempt.method in SAMPLED:
        right, total = attempt.right_trajectories, attempt.trajectories
        if right is None or total < k:
            return None
        return 1.0 - comb(total - right, k) / comb(total, k)
    point = attempt.at(k)
    return None if point is None else float(point.any_right)


def attempts_record(problem_id: str, group: str, attempts: Iterable[Attempt]) -> dict[str, Any]:
    """The record of one problem."""
    return {"problem": problem_id, "group": group, "attempts": [_fields(attempt) for attempt in attempts]}


def _fields(attempt: Attempt) -> dict[str, Any]:
    fields = asdict(attempt)
    del fields["problem_id"], fields["group"]
    if not attempt.paths:
        del fields["paths"]
    return fields


def read_attempts(record: Mapping[str, Any]) -> dict[Method, Attempt]:
    """The attempts of one record."""
    return {attempt.method: attempt for attempt in (_attempt(record, fields) for fields in record["attempts"])}


def _attempt(record: Mapping[str, Any], fields: Mapping[str, Any]) -> Attempt:
    typed: dict[str, Any] = {
        **fields,
        "problem_id": record["problem"],
        "group": record["group"],
        "method": Method(fields["method"]),
        "stop_reason": StopReason(fields["stop_reason"]),
        "curve": tuple(Point(**point) for point in fields["curve"]),
        "paths": tuple((bool(is_right), tuple(scores)) for is_right, scores in fields.get("paths", ())),
    }
    return Attempt(**typed)
