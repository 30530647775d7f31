"""Orders: a valid request with the operator's defaults filled in and the operator's limits applied. Pure."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TypeVar, assert_never

from search import Budget, SearchConfig
from server.http.schemas import Effort, Models, SolveRequest
from server.settings.request_limits import REQUEST_LIMITS
from server.settings.settings import Settings
from server.solving.refusals import FieldError, invalid, over_limit

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one search is to do."""

    problem: str
    config: SearchConfig
    trajectories: int
    timeout_s: float
    seed: int
    tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    returns_tree: bool = False

    def budget(self, *, seconds: float) -> Budget:
        """What the search may spend, with `seconds` left of its time."""
        return Budget(trajectories=self.trajectories, tokens=self.tokens, seconds=seconds)

    def tree_id(self, models: Models) -> str:
        """Names the tree that this order grows: whatever shapes it goes in; the budget, and when to stop, stay out."""
        drawing = [self.temperature, self.top_p, self.seed]
        shape = [self.problem, asdict(_shaping(self.config)), drawing, models.policy, models.ppm]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:24]


def order_for(request: SolveRequest, settings: Settings) -> Order:
    """The order for a request. Raises a `Refusal` naming every limit that it breaks."""
    if errors := _broken_limits(request, settings):
        raise invalid(*errors)
    options = request.search
    return Order(
        problem=request.problem.strip(),
        config=SearchConfig(
            strategy=options.strategy,
            candidates=_given(options.candidates, settings.candidates),
            max_depth=_given(options.depth, settings.depth),
            exploration=_given(options.exploration, settings.exploration),
            tree_policy=options.tree_policy,
            parallel_rollouts=_given(options.parallel_rollouts, settings.parallel_rollouts),
            beam_width=_given(options.beam_width, settings.beam_width),
            selection=options.selection,
            stop_when_decided=_given(options.stop_when_decided, settings.stop_when_decided),
            stop_at_confidence=options.stop_at_confidence,
        ),
        trajectories=_trajectories(request, settings),
        tokens=_given(request.max_tokens, settings.tokens),
        timeout_s=_given(request.timeout_s, settings.timeout_s),
        temperature=_given(request.temperature, settings.temperature),
        top_p=_given(request.top_p, settings.top_p),
        seed=request.seed,
        returns_tree=request.return_tree,
    )


def _trajectories(request: SolveRequest, settings: Settings) -> int:
    if request.effort is None:
        return _given(request.trajectories, settings.trajectories)
    if request.trajectories is not None:
        detail = "stands for a number of trajectories: give effort or trajectories, not both"
        raise invalid(FieldError(field="effort", detail=detail, value=request.effort))
    return min(_worth(request.effort, settings), settings.max_trajectories)


def _worth(effort: Effort, settings: Settings) -> int:
    match effort:
        case Effort.LOW:
            return settings.low_effort_trajectories
        case Effort.MEDIUM:
            return settings.medium_effort_trajectories
        case Effort.HIGH:
            return settings.high_effort_trajectories
    assert_never(effort)


def _broken_limits(request: SolveRequest, settings: Settings) -> list[FieldError]:
    """By what the request names: the operator's defaults are within the limits."""
    errors = [
        over_limit(limit.field, asked, limit=limit.most(settings))
        for limit in REQUEST_LIMITS
        if (asked := limit.asked(request)) is not None and asked > limit.most(settings)
    ]
    length = len(request.problem.strip())
    if length > settings.max_problem_chars:
        errors.append(over_limit("problem", length, limit=settings.max_problem_chars, unit=" characters"))
    return errors


def _shaping(config: SearchConfig) -> SearchConfig:
    return replace(config, stop_when_decided=False, stop_at_confidence=None)


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value
