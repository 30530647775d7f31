"""Orders: a valid request with the operator's defaults filled in and the operator's limits applied. Pure."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from search import Budget, SearchConfig
from search.config import BEAM_WIDTH
from server.refusals import FieldError, invalid, over_limit
from server.schemas import Models, SolveRequest
from server.settings import Settings

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

    def budget(self, *, seconds: float) -> Budget:
        """What the search may spend, with `seconds` left of its time."""
        return Budget(trajectories=self.trajectories, tokens=self.tokens, seconds=seconds)

    def tree_id(self, models: Models) -> str:
        """Names the tree that this order grows: whatever shapes it goes in; the budget, and when to stop, stay out."""
        shape = [self.problem, asdict(_shaping(self.config)), self.seed, models.policy, models.ppm]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:24]


def order_for(request: SolveRequest, settings: Settings) -> Order:
    """The order for a request. Raises a `Refusal` naming every limit that it breaks."""
    options = request.search
    order = Order(
        problem=request.problem.strip(),
        config=SearchConfig(
            strategy=options.strategy,
            candidates=_given(options.candidates, settings.candidates),
            max_depth=_given(options.depth, settings.depth),
            exploration=_given(options.exploration, settings.exploration),
            tree_policy=options.tree_policy,
            parallel_rollouts=_given(options.parallel_rollouts, settings.parallel_rollouts),
            beam_width=_given(options.beam_width, BEAM_WIDTH),
            selection=options.selection,
            stop_when_decided=_given(options.stop_when_decided, settings.stop_when_decided),
            stop_at_confidence=options.stop_at_confidence,
        ),
        trajectories=_given(request.trajectories, settings.trajectories),
        timeout_s=_given(request.timeout_s, settings.timeout_s),
        seed=request.seed,
        tokens=request.tokens,
    )
    if errors := _broken_limits(order, settings):
        raise invalid(*errors)
    return order


def _broken_limits(order: Order, settings: Settings) -> list[FieldError]:
    length = len(order.problem)
    errors = [
        over_limit(field, value, limit=limit)
        for field, value, limit in (
            ("trajectories", order.trajectories, settings.max_trajectories),
            ("timeout_s", order.timeout_s, settings.max_timeout_s),
            ("search.candidates", order.config.candidates, settings.max_candidates),
            ("search.depth", order.config.max_depth, settings.max_depth),
            ("search.parallel_rollouts", order.config.parallel_rollouts, settings.max_parallel_rollouts),
        )
        if value > limit
    ]
    if length > settings.max_problem_chars:
        errors.append(over_limit("problem", length, limit=settings.max_problem_chars, unit=" characters"))
    return errors


def _shaping(config: SearchConfig) -> SearchConfig:
    return replace(config, stop_when_decided=False, stop_at_confidence=None)


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value
