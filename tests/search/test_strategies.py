"""The entry to the search: checks, deadline, cancellation, early stop, events."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from search import (
    AnswerChanged,
    Budget,
    Calibration,
    NodeAdded,
    NodeOutcome,
    Parts,
    SearchConfig,
    SearchStarted,
    Selection,
    StopReason,
    Strategy,
    TrajectoryFinished,
    Tree,
    Values,
)
from search import search as run_search
from search.events import Event
from search.outcomes import Verdict
from search.protocols import Candidate, CodeRunner, Execution, Path, Policy, Snapshot
from search.testing.fakes import (
    AnswerKey,
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    SteppingClock,
    StringEquality,
)
from tests.search import searches
from tests.search.searches import StallingPolicy

think = partial(searches.think, seed=5, clock=SteppingClock(0.0))


def parts(policy: Policy | None = None, runner: CodeRunner | None = None) -> Parts:
    return Parts(
        policy=policy or ArithmeticPolicy(0.3),
        runner=runner or ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.5),
    )


async def test_a_tree_of_another_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="made for another problem"):
        await think(parts(), tree=Tree("1+1"))


@pytest.mark.parametrize(
    "config",
    [
        SearchConfig(),
        SearchConfig(values=Values.TERMINAL_GUIDED),
        SearchConfig(strategy=Strategy.MAJORITY, selection=Selection.BEST),
    ],
)
async def test_a_search_that_needs_a_scorer_says_so(config: SearchConfig) -> None:
    without = Parts(policy=ArithmeticPolicy(0.1), runner=ArithmeticRunner(), equality=StringEquality())
    with pytest.raises(ValueError, match="needs a scorer"):
        await think(without, config)


async def test_terminal_guided_search_with_a_judge_needs_no_scorer() -> None:
    without = Parts(
        policy=ArithmeticPolicy(0.1), runner=ArithmeticRunner(), equality=StringEquality(), judge=AnswerKey("25")
    )
    result = await think(without, SearchConfig(values=Values.TERMINAL_GUIDED))
    assert result.answer is not None
    assert result.usage.ppm_calls == 0


async def test_the_given_clock_decides_the_deadline_between_rollouts() -> None:
    result = await think(parts(), budget=Budget(seconds=1000.0), clock=SteppingClock(25.0))
    assert result.stop_reason is StopReason.DEADLINE
    assert result.answer is not None
    assert result.phase_seconds.policy > 0.0


@pytest.mark.parametrize(("strategy", "calls"), [(Strategy.MCTS, 12), (Strategy.MAJORITY, 60), (Strategy.GREEDY, 0)])
async def test_at_the_deadline_the_answer_is_the_best_so_far(strategy: Strategy, calls: int) -> None:
    policy = StallingPolicy(calls)
    loop = asyncio.get_running_loop()
    result = await run_search(
        "3+4+5+6+7",
        parts=parts(policy),
        config=SearchConfig(strategy=strategy, candidates=4),
        budget=Budget(seconds=0.5),
        seed=5,
        now=loop.time,
    )
    assert result.stop_reason is StopReason.DEADLINE
    assert policy.aborted == -policy.calls >= 1
    assert (result.answer is not None) == (calls > 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_deadline_in_answer_checking_still_gives_an_answer() -> None:
    class Undecided:
        async def same(self, a: str, b: str) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError

    slow = Parts(
        policy=ArithmeticPolicy(0.5),
        runner=ArithmeticRunner(),
        equality=Undecided(),
        scorer=FunctionScorer(lambda path: 0.5),
    )
    result = await run_search(
        "3+4+5+6+7",
        parts=slow,
        config=SearchConfig(candidates=4),
        budget=Budget(seconds=0.5),
        seed=5,
        now=asyncio.get_running_loop().time,
    )
    assert result.stop_reason is StopReason.DEADLINE
    assert len(result.answers) == 2


async def test_a_part_that_times_out_by_itself_is_not_the_deadline() -> None:
    class TimingOut:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise TimeoutError("engine did not answer")

    with pytest.raises(TimeoutError, match="engine did not answer"):
        await think(parts(TimingOut()), budget=Budget(trajectories=1, seconds=100.0))


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_cancelling_aborts_the_policy_and_leaves_no_task(strategy: Strategy) -> None:
    policy = StallingPolicy(0 if strategy is Strategy.GREEDY else 4)
    tree = Tree("3+4+5+6+7")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(think(parts(policy), SearchConfig(strategy=strategy, candidates=4), tree=tree))
        await policy.stalled.wait()
        task.cancel()
    assert task.cancelled()
    assert policy.aborted >= 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert tree.root.visits == tree.trajectories


async def test_cancelling_ends_all_code_of_an_expansion() -> None:
    @dataclass
    class Stalling:
        running: int = 0
        ended: int = 0
        stalled: asyncio.Event = field(default_factory=asyncio.Event)

        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            self.running += 1
            self.stalled.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
            raise AssertionError

    runner = Stalling()
    tree = Tree("3+4+5+6+7")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(think(parts(runner=runner), SearchConfig(candidates=16), tree=tree))
        await runner.stalled.wait()
        task.cancel()
    assert runner.running == runner.ended > 0
    assert len(tree.nodes) == 1


async def test_a_decided_search_stops_early_only_when_asked_to() -> None:
    given = parts(ArithmeticPolicy(0.1))
    budget = Budget(trajectories=20)
    whole = await think(given, SearchConfig(strategy=Strategy.MAJORITY), budget)
    assert whole.stop_reason is StopReason.BUDGET
    early = await think(given, SearchConfig(strategy=Strategy.MAJORITY, stop_when_decided=True), budget)
    assert early.stop_reason is StopReason.CONVERGED
    assert early.tree.trajectories < 20
    assert early.answer == whole.answer == "25"
    lead = early.answers[0].votes - max(group.votes for group in early.answers[1:])
    assert lead > 20 - early.tree.trajectories


async def test_events_tell_the_whole_search_in_order() -> None:
    events: list[Event] = []
    result = await think(parts(), on_event=events.append)
    assert events[0] == SearchStarted(problem="3+4+5+6+7", strategy=Strategy.MCTS, cached_trajectories=0)
    added = [event for event in events if isinstance(event, NodeAdded)]
    assert [event.node_id for event in added] == list(range(1, len(result.tree.nodes)))
    assert {event.outcome for event in added} >= {NodeOutcome.OPEN, NodeOutcome.ANSWERED}
    finished = [event for event in events if isinstance(event, TrajectoryFinished)]
    assert [event.index for event in finished] == list(range(result.tree.trajectories))
    assert [event.answer for event in finished].count(result.answer) >= 1
    changed = [event for event in events if isinstance(event, AnswerChanged)]
    assert changed[-1] == AnswerChanged(answer=result.answer or "", confidence=result.confidence)


async def test_stops_events_and_result_use_the_fitted_confidence() -> None:
    fit = Calibration(scale=0.5, budget_slope=0.1, offset=-1.5)
    unfitted = SearchConfig(stop_at_confidence=0.5)
    early = await think(parts(), unfitted, budget=Budget(trajectories=20))
    assert early.stop_reason is StopReason.CONVERGED
    assert early.tree.trajectories < 20
    events: list[Event] = []
    config = unfitted.calibrated(fit)
    late = await think(parts(), config, budget=Budget(trajectories=20), on_event=events.append)
    # The fit says that these models' votes are right less often than the share is.
    assert late.stop_reason is StopReason.EXHAUSTED
    assert 0 < late.confidence < 0.5
    changed = [event.confidence for event in events if isinstance(event, AnswerChanged)]
    assert max(changed) < 0.5
    assert changed[-1] == late.confidence
    shares = await think(parts(), SearchConfig(), budget=Budget(trajectories=20))
    assert late.confidence == fit.confidence(shares.confidence, trajectories=late.tree.trajectories)


async def test_a_continued_search_announces_the_answer_it_has() -> None:
    first = await think(parts(), budget=Budget(trajectories=2))
    events: list[Event] = []
    await think(parts(), budget=Budget(trajectories=2), tree=first.tree, on_event=events.append)
    assert events == [
        SearchStarted(problem="3+4+5+6+7", strategy=Strategy.MCTS, cached_trajectories=2),
        AnswerChanged(answer=first.answer or "", confidence=first.confidence),
    ]


async def test_a_listener_that_raises_ends_the_search() -> None:
    def listener(event: Event) -> None:
        if isinstance(event, TrajectoryFinished):
            raise RuntimeError("listener is broken")

    with pytest.raises(RuntimeError, match="listener is broken"):
        await run_search(
            "3+4+5+6+7",
            parts=parts(),
            config=SearchConfig(strategy=Strategy.MAJORITY),
            budget=Budget(trajectories=20),
            seed=5,
            now=SteppingClock(0.0),
            on_event=listener,
        )
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_usage_counts_what_the_search_spent() -> None:
    result = await think(parts())
    nodes = result.tree.nodes
    assert result.usage.policy_tokens == result.tree.tokens
    assert result.usage.ppm_calls == sum(node.score is not None for node in nodes)
    assert result.usage.code_steps == sum(node.execution is not None for node in nodes)
    assert (result.usage.trajectories, result.usage.cached_trajectories) == (result.tree.trajectories, 0)
