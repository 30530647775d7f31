"""Requests: defaults and limits of the operator, applied to a body."""

from typing import Any

import pytest
from pydantic import ValidationError

from search import Budget, Selection, Strategy, TreePolicy
from server.http.requests import search_request
from server.http.schemas import SolveRequest
from server.settings.settings import REQUEST_LIMITS, RequestLimit, Settings
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import SearchRequest


def _requested(settings: Settings | None = None, **fields: Any) -> SearchRequest:
    body = SolveRequest.model_validate({"problem": "1+1", **fields})
    return search_request(body, settings or Settings(), endpoint="/solve")


def test_what_a_request_leaves_out_is_the_operators_default() -> None:
    settings = Settings(
        trajectories=5,
        tokens=900,
        timeout_s=7.0,
        candidates=3,
        depth=4,
        exploration=0.5,
        parallel_rollouts=2,
        beam_width=3,
        stop_when_decided=False,
        temperature=0.7,
        top_p=0.9,
    )
    request = _requested(settings)
    assert (request.budget.trajectories, request.timeout_s, request.seed) == (5, 7.0, 0)
    assert (request.config.candidates, request.config.max_depth, request.config.exploration) == (3, 4, 0.5)
    assert (request.config.strategy, request.config.selection) == (Strategy.MCTS, None)
    assert (request.config.tree_policy, request.config.parallel_rollouts, request.config.beam_width) == (
        TreePolicy.UCT,
        2,
        3,
    )
    assert (request.config.stop_when_decided, request.config.stop_at_confidence) == (False, None)
    assert (request.sampling.temperature, request.sampling.top_p) == (0.7, 0.9)
    assert request.budget == Budget(trajectories=5, tokens=900)


def test_what_a_request_names_is_taken() -> None:
    options = {"strategy": "majority", "candidates": 2, "depth": 3, "exploration": 1, "selection": "best"}
    request = _requested(trajectories=9, timeout_s=1, seed=4, search=options)
    assert (request.budget.trajectories, request.timeout_s, request.seed) == (9, 1.0, 4)
    assert (request.config.candidates, request.config.max_depth, request.config.exploration) == (2, 3, 1.0)
    assert (request.config.strategy, request.config.selection) == (Strategy.MAJORITY, Selection.BEST)


def test_how_to_search_and_when_to_stop_can_be_named() -> None:
    options = {
        "strategy": "step_beam",
        "tree_policy": "puct",
        "parallel_rollouts": 1,
        "beam_width": 3,
        "stop_when_decided": False,
        "stop_at_confidence": 0.9,
    }
    request = _requested(max_tokens=5000, temperature=0.5, top_p=0.8, return_tree=True, search=options)
    assert (request.config.strategy, request.config.tree_policy) == (Strategy.STEP_BEAM, TreePolicy.PUCT)
    assert (request.config.parallel_rollouts, request.config.beam_width) == (1, 3)
    assert (request.config.stop_when_decided, request.config.stop_at_confidence) == (False, 0.9)
    assert request.budget == Budget(trajectories=16, tokens=5000)
    assert (request.sampling.temperature, request.sampling.top_p, request.returns_tree) == (0.5, 0.8, True)


@pytest.mark.parametrize(
    "options",
    [
        {"stop_at_confidence": 0},
        {"stop_at_confidence": 1},
        {"beam_width": 0},
        {"parallel_rollouts": 0},
        {"tree_policy": "best"},
        {"stop_when_decided": "yes"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _requested(search=options)


def test_zero_exploration_is_not_mistaken_for_none() -> None:
    assert _requested(search={"exploration": 0}).config.exploration == 0.0


@pytest.mark.parametrize(
    ("fields", "settings", "field", "limit", "value"),
    [
        ({"trajectories": 17}, {"max_trajectories": 16}, "trajectories", 16, 17),
        ({"timeout_s": 60.5}, {"max_timeout_s": 60.0, "timeout_s": 1.0}, "timeout_s", 60.0, 60.5),
        ({"search": {"candidates": 9}}, {"max_candidates": 8}, "search.candidates", 8, 9),
        ({"search": {"depth": 17}}, {"max_depth": 16}, "search.depth", 16, 17),
        (
            {"search": {"parallel_rollouts": 9}},
            {"max_parallel_rollouts": 8},
            "search.parallel_rollouts",
            8,
            9,
        ),
        ({"search": {"exploration": 4.5}}, {"max_exploration": 4.0}, "search.exploration", 4.0, 4.5),
        ({"search": {"beam_width": 33}}, {"max_beam_width": 32}, "search.beam_width", 32, 33),
        ({"max_tokens": 2001}, {"max_tokens": 2000, "tokens": 10}, "max_tokens", 2000, 2001),
        ({"temperature": 1.5}, {"max_temperature": 1.0}, "temperature", 1.0, 1.5),
        ({"problem": "1+" * 6}, {"max_problem_chars": 11}, "problem", 11, 12),
    ],
)
def test_a_limit_error_names_field_limit_and_value(
    fields: dict[str, Any], settings: dict[str, Any], field: str, limit: float, value: float
) -> None:
    with pytest.raises(Refusal) as refused:
        _requested(Settings(**settings), **fields)
    assert refused.value.kind is RefusalKind.INVALID_REQUEST
    (error,) = refused.value.errors
    assert (error.field, error.limit, error.value) == (field, limit, value)
    assert str(limit) in error.detail
    assert str(value) in error.detail
    assert field in refused.value.detail


@pytest.mark.parametrize("limit", REQUEST_LIMITS, ids=lambda limit: limit.field)
def test_every_limit_can_be_reached_and_not_passed(limit: RequestLimit) -> None:
    def ask(number: float) -> None:
        within, _, field = limit.field.rpartition(".")
        fields: dict[str, Any] = {within: {field: number}} if within else {field: number}
        _requested(**fields)

    ask(limit.most(Settings()))
    with pytest.raises(Refusal) as refused:
        ask(limit.most(Settings()) + 1)
    assert [error.field for error in refused.value.errors] == [limit.field]


@pytest.mark.parametrize(("effort", "expected"), [("low", 2), ("medium", 6), ("high", 20)])
def test_effort_stands_for_a_budget_up_to_the_limit(effort: str, expected: int) -> None:
    settings = Settings(
        low_effort_trajectories=2, medium_effort_trajectories=6, high_effort_trajectories=64, max_trajectories=20
    )
    assert _requested(settings, effort=effort).budget.trajectories == expected


def test_effort_beside_trajectories_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        _requested(effort="low", trajectories=4)
    (error,) = refused.value.errors
    assert error.field == "effort"
    assert "not both" in error.detail


def test_all_broken_limits_are_named_at_once() -> None:
    with pytest.raises(Refusal) as refused:
        _requested(trajectories=1000, timeout_s=1000)
    assert [error.field for error in refused.value.errors] == ["trajectories", "timeout_s"]
