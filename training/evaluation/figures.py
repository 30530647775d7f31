"""Figures: what measured attempts come to: shares and paired gains, curves over budgets, confidence, step scores. Pure.

A measurement is a mapping from problem to the attempts at it. Two measurements are compared on the problems they share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from training.evaluation.attempts import Attempt, Attempts, Point, pass_at_k
from training.evaluation.intervals import (
    BrierScores,
    Interval,
    ReliabilityBin,
    area,
    area_under_curve,
    brier,
    calibration_error,
    mean,
    paired_difference,
    reliability,
    share,
)
from training.evaluation.solutions import Method

Measured = Mapping[str, Attempts]
"""The attempts at each problem, by its id."""

Solved = Mapping[str, bool]
"""Whether each problem was solved, by its id."""

_STEP_RESAMPLES = 200
"""Of areas over the steps of all trajectories, of which there may be a million."""


def of_group(measured: Measured, group: str) -> dict[str, Attempts]:
    """The problems of one group."""
    return {
        problem: attempts
        for problem, attempts in measured.items()
        if any(attempt.group == group for attempt in attempts.values())
    }


def groups_of(measured: Measured) -> list[str]:
    """Groups in the order of first appearance."""
    found = (attempt.group for attempts in measured.values() for attempt in attempts.values())
    return list(dict.fromkeys(found))


def methods_of(measured: Measured) -> list[Method]:
    """Methods that have an attempt at every problem, in the order of `Method`."""
    return [method for method in Method if measured and all(method in attempts for attempts in measured.values())]


def attempts_of(measured: Measured, method: Method) -> list[Attempt]:
    """One method's attempts, in the order of the problems."""
    return [attempts[method] for attempts in measured.values() if method in attempts]


def solved(measured: Measured, method: Method, *, at: int | None = None) -> dict[str, bool]:
    """What a method solved: with its whole budget, or `at` so many trajectories where that is known."""
    found: dict[str, bool] = {}
    for attempt in attempts_of(measured, method):
        point = attempt if at is None else attempt.at(at)
        if point is not None:
            found[attempt.problem_id] = point.is_right
    return found


def share_of(outcomes: Solved) -> Interval:
    """The share of problems solved."""
    return share(list(outcomes.values()))


class Gain(NamedTuple):
    """How much larger one share is than another, and over how many problems."""

    difference: Interval
    problems: int


def gain(ours: Solved, theirs: Solved) -> Gain | None:
    """Our share minus theirs, paired over the problems that both answered; None without such problems."""
    both = [problem for problem in ours if problem in theirs]
    if not both:
        return None
    difference = paired_difference([ours[problem] for problem in both], [theirs[problem] for problem in both])
    return Gain(difference, len(both))


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A method with a smaller budget."""

    trajectories: int
    made: float
    """Mean of the trajectories made: a tree in which nothing new is left ends a search before its budget."""
    problems: int
    share: Interval
    coverage: Interval
    """Of problems with a right trajectory so far: pass@k of a search."""
    tokens: float | None
    """Mean per problem."""


def curve(measured: Measured, method: Method) -> list[CurvePoint]:
    """The method's share at every budget, over the problems whose curve goes all the way."""
    attempts = attempts_of(measured, method)
    most = max((attempt.curve[-1].trajectories for attempt in attempts if attempt.curve), default=0)
    whole = [attempt for attempt in attempts if attempt.at(most) is not None]
    made = [attempt.trajectories for attempt in whole]
    return [_curve_point(points, made) for points in zip(*(attempt.curve for attempt in whole), strict=True)]


def _curve_point(points: Sequence[Point], made: Sequence[int]) -> CurvePoint:
    budget = points[0].trajectories
    tokens = [point.tokens for point in points if point.tokens is not None]
    return CurvePoint(
        trajectories=budget,
        made=fmean(min(budget, count) for count in made),
        problems=len(points),
        share=share([point.is_right for point in points]),
        coverage=share([point.any_right for point in points]),
        tokens=fmean(tokens) if len(tokens) == len(points) else None,
    )


def coverage_at(measured: Measured, method: Method, trajectories: int) -> Interval | None:
    """Mean pass@k over all problems; None where it is not known for each of them."""
    chances = [pass_at_k(attempt, trajectories) for attempt in attempts_of(measured, method)]
    known = [chance for chance in chances if chance is not None]
    return mean(known) if known and len(known) == len(chances) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Means per problem."""

    tokens: float
    trajectories: float
    code_steps: float
    seconds: float


def spending(measured: Measured, method: Method) -> Spending:
    """What a method spent."""
    attempts = attempts_of(measured, method)
    return Spending(
        tokens=fmean(attempt.tokens for attempt in attempts),
        trajectories=fmean(attempt.trajectories for attempt in attempts),
        code_steps=fmean(attempt.code_steps for attempt in attempts),
        seconds=fmean(attempt.seconds for attempt in attempts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An answer with its confidence."""

    problem_id: str
    trajectories: int
    confidence: float
    is_right: bool


def claims(measured: Measured, method: Method = Method.MCTS, *, at: int | None = None) -> list[Claim]:
    """The answers of a method at its whole budget, or at a smaller one. Without an answer there is no claim."""
    found: list[Claim] = []
    for attempt in attempts_of(measured, method):
        if at is None and attempt.answer is not None:
            found.append(_claim(attempt, attempt.trajectories, attempt.confidence, is_right=attempt.is_right))
        elif at is not None and (point := attempt.at(at)) is not None and point.has_answer:
            # A search that found nothing new any more made fewer.
            made = min(at, attempt.trajectories)
            found.append(_claim(attempt, made, point.confidence, is_right=point.is_right))
    return found


def _claim(attempt: Attempt, trajectories: int, confidence: float, *, is_right: bool) -> Claim:
    return Claim(problem_id=attempt.problem_id, trajectories=trajectories, confidence=confidence, is_right=is_right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """How well confidences tell right answers from wrong ones."""

    claims: int
    base_rate: float
    """Share of right answers."""
    error: Interval
    """ECE."""
    area: Interval | None
    """AUROC; None where all are right or all wrong."""
    brier: BrierScores
    bins: list[ReliabilityBin]


def confidence_of(
    made: Sequence[Claim], *, adjusted: Callable[[Claim], float] = lambda claim: claim.confidence
) -> Confidence | None:
    """The quality of the claims' confidences, or of what `adjusted` makes of them; None without claims."""
    if not made:
        return None
    confidence, is_right = [adjusted(claim) for claim in made], [claim.is_right for claim in made]
    return Confidence(
        claims=len(made),
        base_rate=fmean(is_right),
        error=calibration_error(confidence, is_right),
        area=area_under_curve(confidence, is_right),
        brier=brier(confidence, is_right),
        bins=reliability(confidence, is_right),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScores:
    """PPM scores of the steps at one depth, against how the trajectories through them ended."""

    depth: int
    """From 1: the first step."""
    steps: int
    """Counted once for each trajectory through them."""
    area: Interval
    """The chance that a step of a right trajectory has a higher score than one of a wrong trajectory."""
    within: Interval | None
    """The same among the steps of one problem, averaged over the problems that have both kinds."""


def step_scores(measured: Measured, method: Method = Method.MCTS) -> list[StepScores]:
    """By depth, while both right and wrong trajectories are that long. Fails never: empty without scores."""
    attempts = attempts_of(measured, method)
    longest = max((len(scores) for attempt in attempts for _, scores in attempt.paths), default=0)
    found: list[StepScores] = []
    for depth in range(1, longest + 1):
        points = [_points_at(attempt, depth) for attempt in attempts]
        scores = [score for problem in points for score in problem.scores]
        right = [is_right for problem in points for is_right in problem.right]
        owners = [number for number, problem in enumerate(points) for _ in problem.scores]
        across = area_under_curve(scores, right, problems=owners, resamples=_STEP_RESAMPLES)
        if across is None:
            continue
        each = [area(problem.scores, problem.right) for problem in points]
        inside = [one for one in each if one is not None]
        found.append(StepScores(depth=depth, steps=len(scores), area=across, within=mean(inside) if inside else None))
    return found


class _Points(NamedTuple):
    scores: list[float]
    right: list[bool]


def _points_at(attempt: Attempt, depth: int) -> _Points:
    deep = [(scores[depth - 1], is_right) for is_right, scores in attempt.paths if len(scores) >= depth]
    return _Points([score for score, _ in deep], [is_right for _, is_right in deep])
