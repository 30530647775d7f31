"""Greedy and majority: the same interface and budget, without choices in a tree."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from search import (
    Budget,
    NodeOutcome,
    Parts,
    SearchConfig,
    Selection,
    StopReason,
    Strategy,
    TrajectoryFinished,
)
from search.codec import load, save
from search.events import Event
from search.outcomes import ExecutionOutcome
from search.protocols import Candidate, Execution, Path, PathTooLong, Policy
from search.strategies import TRAJECTORIES_IN_FLIGHT
from search.testing.fakes import (
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    last_step,
    step,
)
from tests.search import searches

GREEDY = SearchConfig(strategy=Strategy.GREEDY)
MAJORITY = SearchConfig(strategy=Strategy.MAJORITY)

think = partial(searches.think, problem="3+4+5", seed=3)


def arithmetic(policy: Policy | None = None, scorer: FunctionScorer | None = None) -> Parts:
    return Parts(
        policy=policy or ArithmeticPolicy(0.2), runner=ArithmeticRunner(), equality=StringEquality(), scorer=scorer
    )


async def test_greedy_makes_one_trajectory_of_one_candidate_a_step() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("never")],
        ("\na\n",): [last_step("b")],
        ("\na\n", "\nb\n"): [answer("7"), answer("8")],
    }
    policy = ScriptedPolicy(script)
    parts = Parts(policy=policy, runner=ScriptedRunner(), equality=StringEquality())
    result = await think(parts, GREEDY, Budget(trajectories=5))
    assert (result.answer, result.best_path, result.stop_reason) == ("7", (1, 2, 3), StopReason.EXHAUSTED)
    assert [call.n for call in policy.calls] == [1, 1, 1]
    assert result.tree.trajectories == 1


async def test_greedy_with_a_budget_of_one_trajectory_has_spent_it() -> None:
    result = await think(arithmetic(ArithmeticPolicy(0.0)), GREEDY, Budget(trajectories=1))
    assert (result.answer, result.stop_reason) == ("12", StopReason.BUDGET)


async def test_a_greedy_trajectory_that_fails_has_no_answer() -> None:
    parts = Parts(
        policy=ScriptedPolicy({(): [step("a")]}),
        runner=ScriptedRunner({"a": Execution(outcome=ExecutionOutcome.ERROR)}),
        equality=StringEquality(),
    )
    result = await think(parts, GREEDY, Budget(trajectories=1))
    assert (result.answer, result.confidence) == (None, 0.0)
    assert result.tree.nodes[1].outcome is NodeOutcome.CODE_FAILED
    assert (result.tree.trajectories, result.tree.root.value) == (1, -1.0)


async def test_majority_draws_separate_trajectories_and_counts_heads() -> None:
    result = await think(arithmetic(), MAJORITY, Budget(trajectories=20))
    assert result.stop_reason is StopReason.BUDGET
    assert len(result.tree.root.children) == result.tree.trajectories == 20
    answered = [node for node in result.tree.nodes if node.outcome is NodeOutcome.ANSWERED]
    assert sum(group.votes for group in result.answers) == len(answered) < 20
    # Every vote weighs the same: the winner's share, with failures and one imagined trajectory against it.
    assert result.confidence == pytest.approx(result.answers[0].votes / 21)


async def test_repeated_trajectories_vote_each_for_itself() -> None:
    result = await think(arithmetic(ArithmeticPolicy(0.0)), MAJORITY, Budget(trajectories=6))
    assert [(group.answer, group.votes) for group in result.answers] == [("12", 6)]


async def test_majority_never_asks_the_ppm() -> None:
    scorer = FunctionScorer(lambda path: 0.5)
    result = await think(arithmetic(scorer=scorer), MAJORITY, Budget(trajectories=6))
    assert result.usage.ppm_calls == 0
    assert scorer.batches == []


async def test_a_weighted_baseline_scores_answers_alone() -> None:
    scorer = FunctionScorer(lambda path: 0.5)
    config = SearchConfig(strategy=Strategy.MAJORITY, selection=Selection.WEIGHTED_VOTE)
    result = await think(arithmetic(scorer=scorer), config, Budget(trajectories=6))
    answered = [node for node in result.tree.nodes if node.outcome is NodeOutcome.ANSWERED]
    assert result.usage.ppm_calls == len(answered) > 0
    assert all(node.score == 0.5 for node in answered)
    assert result.answers[0].weight == pytest.approx(0.75 * result.answers[0].votes)


async def test_draws_of_the_same_path_have_different_seeds() -> None:
    policy = ScriptedPolicy({(): [last_step("a")], ("\na\n",): [answer("7")]})
    parts = Parts(policy=policy, runner=ScriptedRunner(), equality=StringEquality())
    await think(parts, MAJORITY, Budget(trajectories=5))
    assert len({call.seed for call in policy.calls}) == 10


@dataclass
class UnevenPolicy:
    """Takes longer for some requests than for others."""

    inner: Policy

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        for _ in range(seed % 7):
            await asyncio.sleep(0)
        return await self.inner.propose(path, n, seed=seed)


async def test_the_tree_is_independent_of_the_order_of_results() -> None:
    in_order = await think(arithmetic(), MAJORITY, Budget(trajectories=20))
    uneven = await think(arithmetic(UnevenPolicy(ArithmeticPolicy(0.2))), MAJORITY, Budget(trajectories=20))
    assert uneven.tree == in_order.tree


async def test_majority_saved_and_continued_equals_never_stopped() -> None:
    whole = await think(arithmetic(), MAJORITY, Budget(trajectories=12))
    half = await think(arithmetic(), MAJORITY, Budget(trajectories=5))
    loaded = load(json.loads(json.dumps(save(half.tree))))
    continued = await think(arithmetic(), MAJORITY, Budget(trajectories=12), tree=loaded)
    assert continued.tree == whole.tree
    assert continued.answers == whole.answers


async def test_surplus_trajectories_of_a_token_budget_are_thrown_away() -> None:
    whole = await think(arithmetic(), MAJORITY, Budget(trajectories=3))
    result = await think(arithmetic(), MAJORITY, Budget(tokens=whole.tree.tokens))
    assert result.tree == whole.tree
    assert result.stop_reason is StopReason.BUDGET
    assert result.usage.policy_tokens >= result.tree.tokens


async def test_trajectories_in_flight_are_limited() -> None:
    @dataclass
    class Counting:
        inner: Policy
        now: int = 0
        most: int = 0

        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return await self.inner.propose(path, n, seed=seed)

    for trajectories, most in ((3, 3), (30, TRAJECTORIES_IN_FLIGHT)):
        policy = Counting(ArithmeticPolicy(0.3))
        await think(arithmetic(policy), MAJORITY, Budget(trajectories=trajectories))
        assert policy.most == most


@pytest.mark.parametrize("config", [GREEDY, MAJORITY])
async def test_a_problem_too_long_for_the_policy_is_exhausted(config: SearchConfig) -> None:
    class FullPolicy:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise PathTooLong

    result = await think(arithmetic(FullPolicy()), config, Budget(tokens=1000))
    assert (result.answer, result.stop_reason) == (None, StopReason.EXHAUSTED)
    assert result.tree.root.outcome is NodeOutcome.TOO_DEEP


async def test_each_trajectory_is_reported_in_order() -> None:
    events: list[Event] = []
    await think(arithmetic(), MAJORITY, Budget(trajectories=10), on_event=events.append)
    assert [event.index for event in events if isinstance(event, TrajectoryFinished)] == list(range(10))


async def test_a_policy_that_breaks_ends_all_trajectories_in_flight() -> None:
    @dataclass
    class Breaking:
        inner: Policy
        calls: int = 0

        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            self.calls += 1
            if self.calls == 4:
                raise ConnectionError("engine is gone")
            await asyncio.sleep(0)
            return await self.inner.propose(path, n, seed=seed)

    with pytest.raises(ConnectionError, match="engine is gone"):
        await think(arithmetic(Breaking(ArithmeticPolicy())), MAJORITY, Budget(trajectories=20))
    assert asyncio.all_tasks() == {asyncio.current_task()}
