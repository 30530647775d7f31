"""Several rollouts of one tree in flight: rules for the tree and the budget, and no rollout waits for another."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from search import (
    AnswerChanged,
    Budget,
    SearchConfig,
    StopReason,
    TrajectoryFinished,
    Tree,
    TreePolicy,
    Values,
)
from search.calls import CallKind
from search.codec import load, save
from search.events import Event
from search.protocols import Candidate, Execution, Path, Policy, Snapshot
from search.testing.delays import Delays, uneven_turns
from search.testing.fakes import (
    AnswerKey,
    ArithmeticRunner,
    ScriptedPolicy,
    ScriptedRunner,
    arithmetic_parts,
    last_step,
    step,
)
from search.testing.fakes import answer as answer_step
from search.testing.invariants import check_invariants
from tests.search.searches import PROBLEM, scripted, think

seeds = st.integers(0, 10**6)
widths = st.integers(2, 9)
TOKENS = 4
"""Of every candidate of the arithmetic policy."""


@given(
    seeds,
    widths,
    st.floats(0, 1),
    st.sampled_from(Values),
    st.sampled_from(TreePolicy),
    st.sampled_from([None, AnswerKey("25")]),
)
def test_parallel_rollouts_keep_invariants_and_budget(
    seed: int, width: int, error_rate: float, values: Values, tree_policy: TreePolicy, judge: AnswerKey | None
) -> None:
    delays = Delays(uneven_turns(random.Random(seed)))
    config = SearchConfig(candidates=4, values=values, tree_policy=tree_policy, parallel_rollouts=width)
    given_parts = delays.wrap(arithmetic_parts(error_rate, judge=judge))
    result = asyncio.run(think(given_parts, config, Budget(trajectories=12), seed=seed))
    check_invariants(result.tree)
    assert result.tree.root.trajectories == result.tree.trajectories <= 12
    assert (result.tree.trajectories == 12) == (result.stop_reason is StopReason.BUDGET)
    assert result.tree.root.is_finished or result.stop_reason is StopReason.BUDGET
    assert delays.counts[CallKind.POLICY].most <= width
    assert delays.in_flight == 0
    # Nothing was expanded twice, and nothing thrown away.
    assert result.usage.policy_tokens == result.tree.tokens
    assert delays.counts[CallKind.POLICY].begun == sum(bool(node.children) for node in result.tree.nodes)


@given(seeds, widths)
def test_rollouts_in_flight_bound_the_overshoot_of_tokens(seed: int, width: int) -> None:
    limit = 300
    tree = Tree(PROBLEM)
    tokens_at: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrajectoryFinished):
            tokens_at.append(tree.tokens)

    config = SearchConfig(candidates=4, parallel_rollouts=width)
    given_parts = Delays(uneven_turns(random.Random(seed))).wrap(arithmetic_parts())
    result = asyncio.run(think(given_parts, config, Budget(tokens=limit), seed=seed, tree=tree, on_event=listen))
    if result.stop_reason is StopReason.BUDGET:
        assert sum(tokens >= limit for tokens in tokens_at) <= width
    assert result.tree.tokens < limit + width * config.max_depth * config.candidates * TOKENS


@given(seeds, widths)
def test_a_time_budget_begins_nothing_after_it_is_spent(seed: int, width: int) -> None:
    config = SearchConfig(candidates=4, parallel_rollouts=width)
    given_parts = Delays(uneven_turns(random.Random(seed))).wrap(arithmetic_parts())
    result = asyncio.run(think(given_parts, config, Budget(seconds=40.0, trajectories=50), seed=seed))
    check_invariants(result.tree)
    assert result.stop_reason in (StopReason.DEADLINE, StopReason.EXHAUSTED)


async def test_calls_of_different_rollouts_overlap() -> None:
    """No rollout gets through unless one call of each kind is in flight at the same time."""
    kinds = {CallKind.POLICY, CallKind.RUNNER, CallKind.SCORER}
    seen: set[frozenset[CallKind]] = set()
    rng = random.Random(0)

    async def pause(kind: CallKind, size: int) -> None:
        for _ in range(rng.randrange(12)):
            seen.add(frozenset(kind for kind in kinds if delays.counts[kind].in_flight))
            await asyncio.sleep(0)

    delays = Delays(pause)
    await think(
        delays.wrap(arithmetic_parts()), SearchConfig(candidates=4, parallel_rollouts=6), Budget(trajectories=30)
    )
    assert frozenset(kinds) in seen


async def test_a_slow_rollout_holds_up_no_other() -> None:
    """The expansion of one node never ends; the rest of the tree is searched to the end all the same."""
    release = asyncio.Event()
    finished: list[int] = []

    @dataclass
    class SlowBelow:
        inner: Policy

        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            if len(path.steps) == 1 and "a" in path.steps[0].text:
                await release.wait()
            return await self.inner.propose(path, n, seed=seed)

    script = {(): [step("a"), step("b")], ("\na\n",): [last_step("a1")], ("\nb\n",): [last_step("b1"), last_step("b2")]}
    answers = {
        (first, second): [answer_step("7"), answer_step("8")]
        for first, second in (("\na\n", "\na1\n"), ("\nb\n", "\nb1\n"), ("\nb\n", "\nb2\n"))
    }

    def listen(event: Event) -> None:
        if isinstance(event, TrajectoryFinished):
            finished.append(event.node_id)
            if len(finished) == 4:  # everything below b
                release.set()

    policy = SlowBelow(ScriptedPolicy({**script, **answers}))
    async with asyncio.timeout(30):
        result = await think(
            scripted(policy, ScriptedRunner()),
            SearchConfig(candidates=2, parallel_rollouts=2),
            Budget(trajectories=100),
            on_event=listen,
        )
    assert (result.stop_reason, result.tree.trajectories) == (StopReason.EXHAUSTED, 6)


@given(seeds, widths)
def test_a_search_that_is_sure_enough_stops(seed: int, width: int) -> None:
    given_parts = Delays(uneven_turns(random.Random(seed))).wrap(arithmetic_parts(0.1))
    config = SearchConfig(candidates=4, parallel_rollouts=width, stop_at_confidence=0.6)
    result = asyncio.run(think(given_parts, config, Budget(trajectories=40), seed=seed))
    check_invariants(result.tree)
    if result.stop_reason is StopReason.CONVERGED:
        assert result.confidence >= 0.6
    else:
        assert result.confidence < 0.6 or result.stop_reason is StopReason.BUDGET


async def test_a_slow_comparison_delays_the_count_not_the_rollouts() -> None:
    events: list[Event] = []
    release = asyncio.Event()

    async def pause(kind: CallKind, size: int) -> None:
        if kind is CallKind.EQUALITY:
            await release.wait()

    def listen(event: Event) -> None:
        events.append(event)
        if sum(isinstance(event, TrajectoryFinished) for event in events) == 5:
            release.set()

    given_parts = Delays(pause).wrap(arithmetic_parts(0.3))
    async with asyncio.timeout(30):
        result = await think(
            given_parts, SearchConfig(candidates=4, parallel_rollouts=8), Budget(trajectories=12), on_event=listen
        )
    changed = [event for event in events if isinstance(event, AnswerChanged)]
    assert (changed[-1].answer, changed[-1].confidence) == (result.answer, result.confidence)


@given(seeds, widths)
def test_the_lead_follows_the_order_of_trajectories(seed: int, width: int) -> None:
    given_parts = Delays(uneven_turns(random.Random(seed))).wrap(arithmetic_parts(0.4))
    config = SearchConfig(candidates=4, parallel_rollouts=width)
    result = asyncio.run(think(given_parts, config, Budget(trajectories=12), seed=seed))
    again = asyncio.run(
        think(arithmetic_parts(), config, Budget(trajectories=1), seed=seed, tree=load(save(result.tree)))
    )
    assert again.trajectories_to_answer == result.trajectories_to_answer
    assert again.answers == result.answers


class CountingRunner:
    """Runs nothing twice."""

    def __init__(self) -> None:
        self.inner = ArithmeticRunner()
        self.ran: list[tuple[Snapshot | None, str]] = []

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        self.ran.append((parent, code))
        return await self.inner.run(parent, code)


@given(seeds, widths)
def test_no_code_step_is_run_twice_in_one_search(seed: int, width: int) -> None:
    runner = CountingRunner()
    given_parts = Delays(uneven_turns(random.Random(seed))).wrap(replace(arithmetic_parts(), runner=runner))
    config = SearchConfig(candidates=4, parallel_rollouts=width)
    result = asyncio.run(think(given_parts, config, Budget(trajectories=12), seed=seed))
    assert len(runner.ran) == result.usage.code_steps == sum(n.execution is not None for n in result.tree.nodes)
