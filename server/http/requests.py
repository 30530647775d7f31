"""Requests: makes a search request of a body, with the operator's defaults filled in and limits applied. Pure."""

from typing import TypeVar, assert_never

from search import Budget, SearchConfig
from server.engines.protocols import Sampling
from server.http.schemas import Effort, SolveRequest
from server.settings.settings import REQUEST_LIMITS, Settings
from server.solving.refusals import FieldError, invalid, over_limit
from server.solving.request import SearchRequest

Value = TypeVar("Value")


def search_request(body: SolveRequest, settings: Settings, *, endpoint: str) -> SearchRequest:
    """What the body asks for. Raises a `Refusal` that names every limit it breaks."""
    if errors := _broken_limits(body, settings):
        raise invalid(*errors)
    options = body.search
    return SearchRequest(
        problem=body.problem.strip(),
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
        budget=Budget(trajectories=_trajectories(body, settings), tokens=_given(body.max_tokens, settings.tokens)),
        timeout_s=_given(body.timeout_s, settings.timeout_s),
        sampling=Sampling(
            temperature=_given(body.temperature, settings.temperature),
            top_p=_given(body.top_p, settings.top_p),
            max_step_tokens=settings.max_step_tokens,
        ),
        seed=body.seed,
        endpoint=endpoint,
        returns_tree=body.return_tree,
    )


def _trajectories(body: SolveRequest, settings: Settings) -> int:
    if body.effort is None:
        return _given(body.trajectories, settings.trajectories)
    if body.trajectories is not None:
        detail = "stands for a number of trajectories: give effort or trajectories, not both"
        raise invalid(FieldError(field="effort", detail=detail, value=body.effort))
    match body.effort:
        case Effort.LOW:
            trajectories = settings.low_effort_trajectories
        case Effort.MEDIUM:
            trajectories = settings.medium_effort_trajectories
        case Effort.HIGH:
            trajectories = settings.high_effort_trajectories
        case _:
            assert_never(body.effort)
    return min(trajectories, settings.max_trajectories)


def _broken_limits(body: SolveRequest, settings: Settings) -> list[FieldError]:
    """Only what the body names is checked: the operator's defaults are within the limits."""
    errors = [
        over_limit(limit.field, asked, limit=limit.most(settings))
        for limit in REQUEST_LIMITS
        if (asked := limit.asked(body)) is not None and asked > limit.most(settings)
    ]
    length = len(body.problem.strip())
    if length > settings.max_problem_chars:
        errors.append(over_limit("problem", length, limit=settings.max_problem_chars, unit=" characters"))
    return errors


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value
