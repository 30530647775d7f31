"""Measuring: majority and others get the tokens of mcts; a folder is resumed, and refused to other settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search import SearchConfig
from search.testing.fakes import StringEquality
from tests.training.evaluation.arithmetic import ArithmeticSource, arithmetic_searcher, sums
from training.evaluation.attempts import Attempts, read_attempts
from training.evaluation.local_solver import LocalSolver
from training.evaluation.measure import (
    MeasuredOtherwise,
    Measurement,
    Measuring,
    Task,
    attempt_all,
    mcts_tokens,
    read_measured,
    run_measurement,
)
from training.evaluation.solutions import Method
from training.problems.grader import Grader

HOW = Measurement(methods=tuple(Method), trajectories=6, candidates=4)


async def _attempts(number: int = 1, *, tokens: int | None = None, how: Measurement = HOW) -> Attempts:
    solver = LocalSolver(arithmetic_searcher(), SearchConfig(candidates=how.candidates))
    task = Task(sums(number + 1)[number], tokens)
    return read_attempts(await attempt_all(task, solver=solver, grader=Grader(StringEquality()), how=how))


async def test_majority_generates_at_least_the_tokens_of_mcts() -> None:
    for number in range(5):
        attempts = await _attempts(number)
        assert set(attempts) == set(Method)
        price = attempts[Method.MCTS].tokens
        for method in (Method.MAJORITY, Method.BEST_OF_N, Method.STEP_BEAM):
            assert attempts[method].tokens >= price
        assert attempts[Method.GREEDY].trajectories == 1


async def test_a_token_budget_is_overshot_by_less_than_one_trajectory() -> None:
    attempts = await _attempts(how=replace(HOW, trajectories=32))
    price, majority = attempts[Method.MCTS].tokens, attempts[Method.MAJORITY]
    assert majority.tokens - price < 6 * 4  # six steps of four tokens make a trajectory


async def test_answers_are_graded_against_the_known_one() -> None:
    attempts = await _attempts(4)
    assert (attempts[Method.GREEDY].answer, attempts[Method.GREEDY].is_right) == ("12", True)
    assert all(attempt.is_right == (attempt.answer == "12") for attempt in attempts.values())


async def test_a_given_price_is_paid_by_every_method_but_greedy() -> None:
    attempts = await _attempts(tokens=300)
    assert attempts[Method.MCTS].tokens >= 300 or attempts[Method.MCTS].stop_reason == "exhausted"
    assert attempts[Method.MAJORITY].tokens >= 300
    assert attempts[Method.GREEDY].trajectories == 1


async def test_without_mcts_trajectories_are_the_budget() -> None:
    attempts = await _attempts(how=replace(HOW, methods=(Method.MAJORITY, Method.GREEDY)))
    assert attempts[Method.MAJORITY].trajectories == 6


def test_no_methods_and_empty_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one method"):
        Measurement(methods=())
    with pytest.raises(ValueError, match="at least 1"):
        Measurement(trajectories=0)


def _run(folder: Path, count: int, how: Measurement = HOW, source: ArithmeticSource | None = None) -> None:
    work = Measuring(source or ArithmeticSource(), how)
    run_measurement(sums(count), work, folder, processes=1, concurrency=2, label="sums")


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    _run(tmp_path, 3)
    first = next(tmp_path.glob("part-*.jsonl")).read_bytes()
    _run(tmp_path, 5)
    assert next(tmp_path.glob("part-*.jsonl")).read_bytes().startswith(first)
    measured = read_measured(tmp_path)
    assert list(measured) == [f"sums/{number}" for number in range(5)]
    assert all(set(attempts) == set(Method) for attempts in measured.values())
    about = json.loads((tmp_path / "about.json").read_text())
    assert (about["split"], about["trajectories"], about["policy"]) == ("test", 6, "arithmetic")


@pytest.mark.slow
def test_a_folder_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    _run(tmp_path, 1)
    with pytest.raises(MeasuredOtherwise, match=r"trajectories 6 -> 7"):
        _run(tmp_path, 1, replace(HOW, trajectories=7))
    with pytest.raises(MeasuredOtherwise, match="policy arithmetic -> other"):
        _run(tmp_path, 1, source=ArithmeticSource(name="other"))


@pytest.mark.slow
def test_tokens_of_an_earlier_measurement_are_the_price(tmp_path: Path) -> None:
    earlier, later = tmp_path / "earlier", tmp_path / "later"
    _run(earlier, 2)
    how = Measurement(methods=(Method.BEST_OF_N,), trajectories=2, tokens_of=earlier)
    _run(later, 2, how)
    prices = mcts_tokens(earlier)
    for problem, attempts in read_measured(later).items():
        assert attempts[Method.BEST_OF_N].tokens >= prices[problem]
    with pytest.raises(ValueError, match="no mcts of 1 problems, such as sums/2"):
        _run(later, 3, how)
