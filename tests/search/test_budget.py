"""The budget: limits, stopping early with the best answer so far, and counting what was spent."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from search import OnLine, SearchConfig, SearchResult, Stop, Strategy, dump_line
from search.budget import Budget, Meter, Stopwatch
from search.calls import listening
from search.outcomes import StopReason
from search.protocols import Candidate, Parts, Path
from search.replay import read_record, replay_record
from search.testing.fakes import (
    FunctionScorer,
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    StringEquality,
    arithmetic_parts,
    step,
)
from search.testing.invariants import check_invariants
from tests.search.searches import StallingPolicy, think


def test_a_budget_without_any_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a limit"):
        Budget()


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="trajectories must be at least 1, not 0"):
        Budget(trajectories=0)
    with pytest.raises(ValueError, match="tokens must be at least 1, not -5"):
        Budget(tokens=-5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_time_limits_are_finite_and_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be a finite number above 0"):
        Budget(seconds=seconds)


def test_a_limit_is_reached_when_it_is_met() -> None:
    budget = Budget(trajectories=4, tokens=100, seconds=2.0)
    assert budget.stop_reason(trajectories=3, tokens=99, seconds=1.9) is None
    assert budget.stop_reason(trajectories=4, tokens=0, seconds=0.0) is StopReason.BUDGET
    assert budget.stop_reason(trajectories=0, tokens=100, seconds=0.0) is StopReason.BUDGET
    assert budget.stop_reason(trajectories=0, tokens=0, seconds=2.0) is StopReason.DEADLINE


def test_what_is_not_limited_never_stops_a_search() -> None:
    assert Budget(tokens=5).stop_reason(trajectories=10**6, tokens=4, seconds=1e9) is None


def test_trajectories_left_are_counted_down_to_zero() -> None:
    assert Budget(trajectories=4).trajectories_left(1) == 3
    assert Budget(trajectories=4).trajectories_left(9) == 0
    assert Budget(tokens=4).trajectories_left(1) is None


LONG = Budget(trajectories=1000, seconds=1000.0)


async def search_until(
    stop: Stop, parts: Parts, *, config: SearchConfig, budget: Budget = LONG, record: OnLine | None = None
) -> SearchResult:
    now = asyncio.get_running_loop().time
    return await think(parts, config, budget, seed=5, clock=now, stop=stop, record=record)


@pytest.mark.parametrize(
    ("strategy", "calls"),
    [(Strategy.MCTS, 12), (Strategy.MAJORITY, 60), (Strategy.STEP_BEAM, 30), (Strategy.GREEDY, 0)],
)
async def test_a_search_that_is_stopped_gives_its_best_answer_so_far(strategy: Strategy, calls: int) -> None:
    policy, stop = StallingPolicy(calls), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    config = SearchConfig(strategy=strategy, candidates=4, parallel_rollouts=3)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        searching = group.create_task(search_until(stop, parts, config=config))
        await policy.stalled.wait()
        stop.ask()
        stop.ask()
        result = await searching
    assert result.stop_reason is StopReason.CANCELLED
    assert (result.answer is not None) == (result.tree.trajectories > 0)
    assert policy.aborted == -policy.calls >= 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    check_invariants(result.tree)


async def test_one_asked_before_it_begins_does_next_to_nothing() -> None:
    policy, stop = StallingPolicy(0), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    stop.ask()
    result = await search_until(stop, parts, config=SearchConfig())
    assert (result.stop_reason, result.answer, result.tree.trajectories) == (StopReason.CANCELLED, None, 0)
    assert policy.aborted == -policy.calls


async def test_asking_after_the_end_changes_nothing() -> None:
    stop = Stop()
    result = await search_until(stop, arithmetic_parts(), config=SearchConfig(), budget=Budget(trajectories=4))
    stop.ask()
    assert result.stop_reason is StopReason.BUDGET
    assert stop.is_asked


async def test_asking_at_the_deadline_is_no_failure() -> None:
    """The deadline has run out, and calls are being cancelled, when somebody asks."""
    stop = Stop()

    class Asking:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            try:
                await asyncio.Event().wait()
            finally:
                stop.ask()
            raise AssertionError

    given = arithmetic_parts()
    parts = Parts(policy=Asking(), runner=given.runner, equality=given.equality, scorer=given.scorer)
    result = await search_until(stop, parts, config=SearchConfig(), budget=Budget(seconds=0.01))
    assert result.stop_reason is StopReason.CANCELLED


async def test_a_stopped_search_is_replayed_to_the_same_end() -> None:
    lines: list[str] = []
    policy, stop = StallingPolicy(9), Stop()
    given = arithmetic_parts()
    parts = Parts(policy=policy, runner=given.runner, equality=given.equality, scorer=given.scorer)
    config = SearchConfig(candidates=4, parallel_rollouts=3)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        searching = group.create_task(
            search_until(stop, parts, config=config, record=lambda line: lines.append(dump_line(line)))
        )
        await policy.stalled.wait()
        stop.ask()
        result = await searching
    replayed = await replay_record(read_record(lines))
    assert replayed.result is not None
    assert replayed.result.stop_reason is StopReason.CANCELLED
    assert replayed.result.answers == result.answers
    assert replayed.tree == result.tree


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def test_overlapping_calls_count_their_time_once() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    watch.start()
    clock.time_s = 2.0
    watch.start()
    clock.time_s = 3.0
    watch.stop()
    clock.time_s = 5.0
    watch.stop()
    clock.time_s = 9.0
    watch.start()
    clock.time_s = 10.0
    watch.stop()
    assert watch.seconds == 6.0


async def test_a_call_that_fails_is_timed_and_not_counted() -> None:
    meter = Meter(SteppingClock())
    parts = listening(arithmetic_parts(), meter.listen)
    with pytest.raises(ValueError, match="invalid literal"):
        await parts.policy.propose(Path(problem="no sum"), 1, seed=0)
    assert meter.phase_seconds().policy == 1.0
    assert meter.usage(trajectories=0, cached_trajectories=0).policy_tokens == 0


async def test_calls_through_metered_parts_are_counted() -> None:
    meter = Meter(SteppingClock())
    parts = listening(
        Parts(
            policy=ScriptedPolicy({(): [step("a", tokens=3), step("b", tokens=5)]}),
            runner=ScriptedRunner(),
            equality=StringEquality(),
            scorer=FunctionScorer(lambda path: 0.0),
        ),
        meter.listen,
    )
    assert parts.scorer is not None
    await parts.policy.propose(Path(problem="p"), 2, seed=0)
    await parts.scorer.score([])
    await parts.runner.run(None, "a")
    await parts.runner.run(None, "b")
    usage = meter.usage(trajectories=5, cached_trajectories=2)
    assert (usage.policy_tokens, usage.ppm_calls, usage.code_steps) == (8, 0, 2)
    assert (usage.trajectories, usage.cached_trajectories) == (5, 2)
    times = meter.phase_seconds()
    assert (times.policy, times.ppm, times.sandbox) == (1.0, 1.0, 2.0)
