"""Step beam and best of n: the PPM chooses, within the same budget."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, NodeOutcome, Parts, SearchConfig, Selection, StopReason, Strategy
from search.calls import CallKind
from search.codec import load, save
from search.outcomes import ExecutionOutcome
from search.protocols import Candidate, Execution, Path, PathTooLong
from search.testing.delays import Delays, uneven_turns
from search.testing.fakes import (
    FunctionScorer,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    StringEquality,
    answer,
    arithmetic_parts,
    last_step,
    path_key,
    scores_by_last_step,
    step,
)
from search.testing.invariants import check_invariants
from tests.search import searches

A, B, C, A1, B1 = "\na\n", "\nb\n", "\nc\n", "\na1\n", "\nb1\n"

think = partial(searches.think, problem="3+4+5", seed=3, clock=SteppingClock(0.0))


def beam(width: int, *, candidates: int = 4) -> SearchConfig:
    return SearchConfig(strategy=Strategy.STEP_BEAM, beam_width=width, candidates=candidates)


async def test_the_best_candidates_of_a_level_go_on() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("b"), step("c")],
        (A,): [last_step("a1"), last_step("a2")],
        (B,): [last_step("b1"), step("broken")],
        (A, A1): [answer("7"), answer("8")],
        (B, B1): [answer("9")],
    }
    scores = {"a": 0.5, "b": 0.4, "c": 0.1, "a1": 0.2, "a2": 0.1, "b1": 0.3}
    scores |= {answer("7").text.strip(): 0.6, answer("8").text.strip(): 0.9, answer("9").text.strip(): 0.7}
    policy = ScriptedPolicy(script)
    parts = Parts(
        policy=policy,
        runner=ScriptedRunner({"broken": Execution(outcome=ExecutionOutcome.ERROR)}),
        equality=StringEquality(),
        scorer=scores_by_last_step(scores),
    )
    result = await think(parts, beam(2), Budget(trajectories=2))
    # a and b of three; then b1 (0.3) and a1 (0.2) of a1, a2, b1; then 8 (0.9) and 9 (0.7) of 7, 8, 9.
    assert [path_key(call.path) for call in policy.calls] == [(), (A,), (B,), (B, B1), (A, A1)]
    ended = [node for node in result.tree.nodes if node.ends_trajectory is not None]
    assert sorted((n.answer, result.tree.path(n.id).steps[0].text) for n in ended) == [("8", A), ("9", B)]
    assert (result.answer, result.stop_reason) == ("8", StopReason.BUDGET)
    check_invariants(result.tree)


async def test_a_path_that_ends_leaves_other_parents_unchanged() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [last_step("a"), step("b")],
        (A,): [answer("7")],
        (B,): [last_step("b1")],
        (B, B1): [answer("8")],
    }
    parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.1 * len(path.steps)),
    )
    result = await think(parts, beam(2), Budget(trajectories=2))
    by_answer = {node.answer: result.tree.path(node.id) for node in result.tree.nodes if node.answer is not None}
    assert [path_step.text for path_step in by_answer["8"].steps][:2] == [B, B1]
    assert [path_step.text for path_step in by_answer["7"].steps][:1] == [A]


async def test_a_path_without_live_children_is_a_failed_trajectory() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), last_step("b")],
        (A,): [step("broken")],
        (B,): [answer("7"), answer("8")],
    }
    parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner({"broken": Execution(outcome=ExecutionOutcome.ERROR)}),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.5),
    )
    result = await think(parts, beam(2), Budget(trajectories=2))
    assert (result.tree.trajectories, result.tree.root.value_sum) == (2, -0.5)
    assert result.tree.nodes[1].outcome is NodeOutcome.CHILDLESS
    assert [group.votes for group in result.answers] == [1]


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 6), st.integers(1, 20))
def test_a_beam_meets_its_budget_of_trajectories_exactly(
    seed: int, error_rate: float, width: int, trajectories: int
) -> None:
    delays = Delays(uneven_turns(random.Random(seed)))
    budget = Budget(trajectories=trajectories)
    result = asyncio.run(think(delays.wrap(arithmetic_parts(error_rate)), beam(width), budget, seed=seed))
    check_invariants(result.tree)
    assert (result.tree.trajectories, result.stop_reason) == (trajectories, StopReason.BUDGET)
    assert delays.in_flight == 0


@given(st.integers(0, 10**6))
def test_a_beams_tree_is_independent_of_the_order_of_results(seed: int) -> None:
    uneven = Delays(uneven_turns(random.Random(seed))).wrap(arithmetic_parts())
    first = asyncio.run(think(arithmetic_parts(), beam(3), Budget(trajectories=10), seed=seed))
    second = asyncio.run(think(uneven, beam(3), Budget(trajectories=10), seed=seed))
    assert first.tree == second.tree


async def test_rounds_overlap_and_expand_their_paths_together() -> None:
    delays = Delays(uneven_turns(random.Random(1)))
    await think(delays.wrap(arithmetic_parts(0.4)), beam(4), Budget(trajectories=16))
    assert 4 < delays.counts[CallKind.POLICY].most <= 8


async def test_the_tokens_of_a_beam_are_overshot_by_less_than_a_round() -> None:
    whole = await think(arithmetic_parts(), beam(4), Budget(trajectories=8))
    result = await think(arithmetic_parts(), beam(4), Budget(tokens=whole.tree.tokens))
    assert result.stop_reason is StopReason.BUDGET
    assert result.tree.tokens >= whole.tree.tokens
    surplus = result.tree.nodes[len(whole.tree.nodes) :]
    assert sum(node.depth == 1 for node in surplus) <= 4


async def test_a_continued_beam_uses_other_draws() -> None:
    half = await think(arithmetic_parts(), beam(4), Budget(trajectories=4))
    whole = await think(arithmetic_parts(), beam(4), Budget(trajectories=8))
    continued = await think(arithmetic_parts(), beam(4), Budget(trajectories=8), tree=load(save(half.tree)))
    assert continued.tree == whole.tree


async def test_a_problem_too_long_for_the_policy_exhausts_a_beam() -> None:
    class FullPolicy:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise PathTooLong

    parts = Parts(
        policy=FullPolicy(),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    result = await think(parts, beam(4), Budget(tokens=100))
    assert (result.answer, result.stop_reason) == (None, StopReason.EXHAUSTED)


async def test_best_of_n_gives_the_answer_with_the_best_score() -> None:
    config = SearchConfig(strategy=Strategy.BEST_OF_N)
    result = await think(arithmetic_parts(), config, Budget(trajectories=12))
    answered = [node for node in result.tree.nodes if node.outcome is NodeOutcome.ANSWERED]
    best = max(answered, key=lambda node: node.score or 0.0)
    assert (result.answer, result.tree.trajectories) == (best.answer, 12)
    assert result.usage.ppm_calls == len(answered)


async def test_best_of_n_draws_what_majority_draws() -> None:
    drawn = [
        await think(arithmetic_parts(), SearchConfig(strategy=strategy), Budget(trajectories=12))
        for strategy in (Strategy.BEST_OF_N, Strategy.MAJORITY)
    ]
    steps = [[None if node.step is None else node.step.text for node in result.tree.nodes] for result in drawn]
    assert steps[0] == steps[1]
    assert SearchConfig(strategy=Strategy.BEST_OF_N).answer_selection is Selection.BEST


@pytest.mark.parametrize("strategy", [Strategy.STEP_BEAM, Strategy.BEST_OF_N])
async def test_strategies_that_the_ppm_guides_need_one(strategy: Strategy) -> None:
    without = Parts(policy=ScriptedPolicy({}), runner=ScriptedRunner(), equality=StringEquality())
    config = SearchConfig(strategy=strategy, selection=Selection.MAJORITY)
    with pytest.raises(ValueError, match=f"{strategy} needs a scorer"):
        await think(without, config, Budget(trajectories=1))
