"""MCTS in the small arithmetic world: rules for every tree, stopping a tree and continuing it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, NodeOutcome, Parts, SearchConfig, StopReason, Tree, Values
from search.codec import load, save
from search.outcomes import CandidateStop, ExecutionOutcome
from search.protocols import Candidate, Execution, Path
from search.testing.fakes import (
    AnswerKey,
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    arithmetic_parts,
    hashed_score,
    last_step,
    path_key,
    step,
)
from search.testing.invariants import check_invariants
from tests.search.searches import think

seeds = st.integers(0, 10**6)


@given(seeds, st.floats(0, 1), st.sampled_from(Values), st.sampled_from([None, AnswerKey("25")]))
def test_visits_add_up_and_values_stay_in_range(
    seed: int, error_rate: float, values: Values, judge: AnswerKey | None
) -> None:
    given_parts = arithmetic_parts(error_rate, judge=judge)
    result = asyncio.run(think(given_parts, seed=seed, config=SearchConfig(candidates=4, values=values)))
    check_invariants(result.tree)
    assert result.tree.trajectories == result.usage.trajectories <= 12
    assert result.stop_reason in (StopReason.BUDGET, StopReason.EXHAUSTED)
    assert result.usage.policy_tokens == result.tree.tokens


@given(seeds)
def test_the_same_request_gives_the_same_tree(seed: int) -> None:
    first, second = (asyncio.run(think(arithmetic_parts(), seed=seed)) for _ in range(2))
    assert first.tree == second.tree
    assert (first.answers, first.confidence) == (second.answers, second.confidence)


async def test_another_seed_gives_another_tree() -> None:
    assert (await think(arithmetic_parts(), seed=1)).tree != (await think(arithmetic_parts(), seed=2)).tree


@given(seeds, st.integers(1, 11))
def test_saved_loaded_and_continued_equals_never_stopped(seed: int, stop_after: int) -> None:
    whole = asyncio.run(think(arithmetic_parts(), seed=seed))
    half = asyncio.run(think(arithmetic_parts(), seed=seed, budget=Budget(trajectories=stop_after)))
    # New parts: the interpreter states of the first half are gone and are made again.
    loaded = load(json.loads(json.dumps(save(half.tree))))
    continued = asyncio.run(think(arithmetic_parts(), seed=seed, tree=loaded))
    assert continued.tree == whole.tree
    assert (continued.answers, continued.confidence) == (whole.answers, whole.confidence)
    assert continued.usage.cached_trajectories == half.usage.trajectories


@dataclass
class StallingScorer:
    """Scores `calls` batches, then keeps its caller waiting for ever."""

    calls: int
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        if self.calls == 0:
            self.stalled.set()
            await asyncio.Event().wait()
        self.calls -= 1
        return [hashed_score(path) for path in paths]


@given(seeds, st.integers(0, 12))
def test_a_cancelled_and_continued_search_equals_an_unbroken_one(seed: int, calls: int) -> None:
    async def interrupted() -> Tree:
        tree = Tree("3+4+5+6+7")
        scorer = StallingScorer(calls)
        stalling = Parts(policy=ArithmeticPolicy(), runner=ArithmeticRunner(), equality=StringEquality(), scorer=scorer)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            searching = group.create_task(think(stalling, seed=seed, tree=tree))
            stalled = group.create_task(scorer.stalled.wait())
            await asyncio.wait([searching, stalled], return_when=asyncio.FIRST_COMPLETED)
            searching.cancel()
            stalled.cancel()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return tree

    tree = asyncio.run(interrupted())
    check_invariants(tree)
    assert (
        asyncio.run(think(arithmetic_parts(), seed=seed, tree=tree)).tree
        == asyncio.run(think(arithmetic_parts(), seed=seed)).tree
    )


@dataclass(frozen=True)
class BushyPolicy:
    """`width` ways on everywhere: two code steps deep, then as many answers."""

    width: int

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        match len(path.steps):
            case 0:
                return [step(f"s = {i}") for i in range(self.width)]
            case 1:
                return [last_step(f"print({i})") for i in range(self.width)]
            case _:
                return [answer(str(i)) for i in range(self.width)]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.sampled_from(Values), st.sampled_from([1, 3]))
def test_every_live_root_child_is_reached_in_bounded_rollouts(
    root_scores: list[float], values: Values, parallel: int
) -> None:
    # A child with its prior alone is worth at least -1 + 2 sqrt(ln P), one with N visits at most 1 + 2 sqrt(ln P / N).
    # From P = 10 on the former is greater when N >= 9: no child is chosen a ninth time while another waits. Rollouts in
    # flight only lower what the others are worth.
    bound = 8 * len(root_scores) + 10

    def score(path: Path) -> float:
        return root_scores[int(path_key(path)[0].split("=")[1])]

    bushy = Parts(
        policy=BushyPolicy(len(root_scores)),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(score),
    )
    config = SearchConfig(candidates=len(root_scores), values=values, parallel_rollouts=parallel)
    tree = asyncio.run(think(bushy, config=config, budget=Budget(trajectories=bound))).tree
    assert all(child.trajectories > 0 for child in tree.children(tree.root))


async def test_terminal_guided_search_tries_every_root_child_first() -> None:
    bushy = Parts(policy=BushyPolicy(5), runner=ScriptedRunner(), equality=StringEquality(), judge=AnswerKey("0"))
    config = SearchConfig(candidates=5, values=Values.TERMINAL_GUIDED)
    tree = (await think(bushy, config=config, budget=Budget(trajectories=5))).tree
    assert [child.trajectories for child in tree.children(tree.root)] == [1] * 5


async def test_a_search_that_has_seen_everything_is_exhausted() -> None:
    result = await think(arithmetic_parts(0.0), budget=Budget(trajectories=100))
    assert result.stop_reason is StopReason.EXHAUSTED
    assert result.tree.root.is_finished
    assert result.answer == "25"


async def test_a_problem_nothing_works_for_ends_without_an_answer() -> None:
    given_parts = Parts(
        policy=ScriptedPolicy({(): [step("a"), step("b")]}),
        runner=ScriptedRunner(
            {code: Execution(outcome=ExecutionOutcome.TIMEOUT_CPU, error="too slow") for code in ("a", "b")}
        ),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    result = await think(given_parts)
    assert (result.answer, result.confidence, result.answers, result.best_path) == (None, 0.0, (), ())
    assert result.stop_reason is StopReason.EXHAUSTED
    assert result.tree.root.outcome is NodeOutcome.CHILDLESS
    assert (result.tree.trajectories, result.tree.root.value) == (1, -1.0)


async def test_a_dead_end_counts_against_the_steps_above_it() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), last_step("b")],
        ("\na\n",): [step("fails")],
        ("\nb\n",): [answer("7")],
    }
    given_parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner({"fails": Execution(outcome=ExecutionOutcome.ERROR)}),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.5),
    )
    result = await think(given_parts)
    dead_end = result.tree.nodes[1]
    assert (dead_end.outcome, dead_end.visits, dead_end.value_sum) == (NodeOutcome.CHILDLESS, 2, -0.5)
    # Node 4 answers at 0.5 (weight 0.75); one failure weighs 0.5, the imagined trajectory 0.5.
    assert result.confidence == pytest.approx(0.75 / 1.75)


async def test_a_walk_that_never_answers_ends_at_the_depth_limit() -> None:
    class Endless:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            return [step(f"x = {len(path.steps)}")]

    given_parts = Parts(
        policy=Endless(),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    result = await think(given_parts)
    assert result.tree.nodes[-1].outcome is NodeOutcome.TOO_DEEP
    assert result.tree.nodes[-1].depth == 16
    assert result.tree.root.outcome is NodeOutcome.CHILDLESS


async def test_the_token_budget_is_overshot_by_less_than_one_rollout() -> None:
    whole = await think(arithmetic_parts(), budget=Budget(trajectories=3))
    result = await think(arithmetic_parts(), budget=Budget(tokens=whole.tree.tokens))
    assert result.stop_reason is StopReason.BUDGET
    assert result.tree == whole.tree


async def test_a_tree_that_has_met_its_budget_is_answered_at_once() -> None:
    first = await think(arithmetic_parts())
    again = await think(arithmetic_parts(), tree=first.tree)
    assert again.usage.policy_tokens == 0
    assert (again.answers, again.stop_reason) == (first.answers, StopReason.BUDGET)


async def test_the_policy_sees_the_output_after_the_last_code_step() -> None:
    result = await think(arithmetic_parts(0.0))
    ends = [n for n in result.tree.nodes if n.step is not None and n.step.stop is CandidateStop.END_OF_CODE]
    assert ends
    assert all(n.step is not None and n.step.output is not None and "25" in n.step.output for n in ends)
