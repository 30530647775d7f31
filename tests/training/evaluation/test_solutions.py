"""A recorder reads the answers of smaller budgets off one run: they are those of runs with these budgets."""

import pytest

from search import AnswerChanged, Budget, NodeAdded, NodeId, NodeOutcome, SearchConfig, StopReason, TrajectoryFinished
from tests.training.evaluation.arithmetic import arithmetic_searcher
from training.evaluation.local_solver import LocalSolver
from training.evaluation.solutions import Method, Recorder, Solution

SEED = 3


async def _solved(method: Method, trajectories: int, *, seed: int = SEED) -> Solution:
    solver = LocalSolver(arithmetic_searcher(0.6), SearchConfig(candidates=8))
    return await solver.solve("3+4+5+6", method, budget=Budget(trajectories=trajectories), seed=seed)


@pytest.mark.parametrize("method", [Method.MCTS, Method.MCTS_CONSTANT, Method.MAJORITY, Method.BEST_OF_N])
@pytest.mark.parametrize("seed", range(4))
async def test_a_moment_of_a_long_run_equals_the_short_run(method: Method, seed: int) -> None:
    long = await _solved(method, 24, seed=seed)
    assert len(long.moments) == long.trajectories == 24
    for budget in (1, 2, 3, 4, 8, 16, 24):
        short, moment = await _solved(method, budget, seed=seed), long.moments[budget - 1]
        assert (moment.answer, moment.confidence) == (short.answer, short.confidence)
        assert moment.tokens == short.tokens
        assert [one.own for one in long.moments[:budget]] == [one.own for one in short.moments]


async def test_answers_change_on_the_way_in_these_runs() -> None:
    changing = [await _solved(Method.MCTS, 24, seed=seed) for seed in range(4)]
    assert any(len({moment.answer for moment in solution.moments}) >= 2 for solution in changing)


async def test_a_search_that_finds_nothing_new_ends_early() -> None:
    solver = LocalSolver(arithmetic_searcher(0.0), SearchConfig(candidates=1))
    solution = await solver.solve("1+2", Method.MCTS, budget=Budget(trajectories=9), seed=0)
    assert (solution.answer, solution.stop_reason) == ("3", StopReason.EXHAUSTED)
    assert len(solution.moments) == solution.trajectories == 1


async def test_a_trajectory_has_the_scores_of_its_steps() -> None:
    solution = await _solved(Method.MCTS, 4)
    answered = next(moment for moment in solution.moments if moment.own is not None)
    assert len(answered.scores) == 6  # four numbers, print, answer
    assert None not in answered.scores
    greedy = await _solved(Method.GREEDY, 1)
    assert greedy.moments[0].scores == (None,) * 6


async def test_greedy_takes_the_greedy_policy() -> None:
    assert (await _solved(Method.GREEDY, 1)).answer == "18"


async def test_majority_stops_at_the_tokens_it_may_generate() -> None:
    solver = LocalSolver(arithmetic_searcher(), SearchConfig())
    solution = await solver.solve("3+4+5", Method.MAJORITY, budget=Budget(tokens=100), seed=1)
    assert solution.tokens >= 100
    assert solution.moments[-2].tokens is not None
    assert solution.moments[-2].tokens < 100


def test_without_a_ppm_a_solver_offers_no_guided_method() -> None:
    solver = LocalSolver(arithmetic_searcher(has_ppm=False))
    assert solver.methods == {Method.GREEDY, Method.MAJORITY, Method.MCTS_CONSTANT}


def _node(node_id: int, parent: int, score: float) -> NodeAdded:
    return NodeAdded(
        node_id=NodeId(node_id), parent=NodeId(parent), depth=1, outcome=NodeOutcome.OPEN, score=score, text=""
    )


def _end(index: int, node_id: int, answer: str | None) -> TrajectoryFinished:
    return TrajectoryFinished(index=index, node_id=NodeId(node_id), answer=answer, score=None)


def test_a_failed_trajectory_keeps_the_answer_so_far() -> None:
    recorder = Recorder(lambda: 7)
    for event in (_node(1, 0, 0.5), _end(0, 1, "4"), AnswerChanged(answer="4", confidence=0.5), _end(1, 1, None)):
        recorder(event)
    assert [(moment.own, moment.answer, moment.confidence) for moment in recorder.moments] == [
        ("4", "4", 0.5),
        (None, "4", 0.5),
    ]


@pytest.mark.parametrize(
    "events",
    [
        (_node(2, 0, 0.5), _end(0, 2, "4")),
        (_node(1, 0, 0.5), _end(1, 1, "4")),
        (_end(0, 5, "4"),),
    ],
)
def test_a_missed_event_leaves_no_moments(events: tuple[NodeAdded | TrajectoryFinished, ...]) -> None:
    recorder = Recorder(lambda: None)
    for event in events:
        recorder(event)
    assert recorder.moments == ()
