"""The benchmark's own parts: an engine of slots, the barrier, clients, and recordings that can be replayed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.fill.clients import keep_in_flight
from benchmarks.fill.lock_step import LockStep
from benchmarks.fill.recording import Recording
from benchmarks.fill.simulated_clock import run_simulated
from benchmarks.fill.slots import SlotEngine
from benchmarks.fill.wordy_world import draw_sum, wordy_parts
from search import Budget, CodeRunner, SearchConfig, search
from search.protocols import Path
from search.testing.fakes import ArithmeticRunner, ScriptedPolicy, step


def test_a_slot_engine_step_costs_the_same_at_any_batch_size() -> None:
    async def written(*tokens: int, slots: int) -> tuple[float, float]:
        engine = SlotEngine(slots=slots, step_s=0.5)
        async with engine.decoding():
            await engine.write(tokens)
        return asyncio.get_running_loop().time(), engine.slot_seconds

    assert run_simulated(written(4, slots=4)) == (2.0, 2.0)
    assert run_simulated(written(4, 4, 1, slots=4)) == (2.0, 4.5)
    assert run_simulated(written(4, 4, 1, slots=2)) == (2.5, 4.5)


def test_a_sequence_that_nobody_waits_for_leaves_its_slot() -> None:
    async def slot_seconds() -> float:
        engine = SlotEngine(slots=4, step_s=0.5)
        async with engine.decoding():
            try:
                async with asyncio.timeout(1.25):
                    await engine.write([100, 100])
            except TimeoutError:
                await asyncio.sleep(10)
        return engine.slot_seconds

    assert run_simulated(slot_seconds()) == 3.0


async def test_in_lock_step_nobody_begins_before_all_have_asked() -> None:
    inner = ScriptedPolicy({(): [step("x = 1")]})
    barrier = LockStep()
    with barrier.seat(inner) as one, barrier.seat(inner) as other:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one.propose(Path(problem="1"), 1, seed=1))
            for _ in range(5):
                await asyncio.sleep(0)
            assert inner.calls == []
            await other.propose(Path(problem="2"), 1, seed=2)
        assert len(first.result()) == len(inner.calls) - 1 == 1


async def test_a_search_that_ends_holds_nobody_up() -> None:
    barrier = LockStep()
    inner = ScriptedPolicy({(): [step("x = 1")]})
    with barrier.seat(inner) as one:
        async with asyncio.TaskGroup() as group:
            with barrier.seat(inner):
                waiting = group.create_task(one.propose(Path(problem="1"), 1, seed=1))
                await asyncio.sleep(0)
                assert inner.calls == []
        assert len(waiting.result()) == 1


async def test_clients_keep_a_fixed_number_of_requests_in_flight() -> None:
    in_flight: set[int] = set()
    most = 0
    notes: list[int] = []

    async def solve(number: int) -> None:
        nonlocal most
        in_flight.add(number)
        most = max(most, len(in_flight))
        try:
            for _ in range(1 + number % 3):
                await asyncio.sleep(0)
        finally:
            in_flight.discard(number)

    await keep_in_flight(3, solve, answers=10, then=lambda: notes.append(len(in_flight)))
    assert most == 3
    assert notes == [2]
    assert not in_flight


async def test_a_recording_makes_the_same_calls_again() -> None:
    recording = Recording()
    result = await search(
        draw_sum(1).question,
        parts=recording.wrap(wordy_parts(), 7),
        config=SearchConfig(candidates=4, parallel_rollouts=2),
        budget=Budget(trajectories=4),
        seed=1,
        now=lambda: 0.0,
    )
    parts = wordy_parts()
    states: list[int] = []

    @asynccontextmanager
    async def open_runner(number: int) -> AsyncGenerator[CodeRunner]:
        runner = ArithmeticRunner()
        yield runner
        states.append(len(runner.states))

    assert recording.tokens == result.usage.policy_tokens == await recording.propose_again(parts.policy)
    assert sum(map(len, recording.scorings)) == result.usage.ppm_calls
    await recording.run_again(open_runner, trees=1)
    assert sum(map(len, recording.steps.values())) == result.usage.code_steps
    assert states == [sum(1 for step in recording.steps[7] if step.result.snapshot is not None)]


async def test_answers_after_a_recording_was_closed_are_not_in_it() -> None:
    recording = Recording()
    recording.close()
    parts = recording.wrap(wordy_parts(), 0)
    assert await parts.policy.propose(Path(problem="1+2"), 2, seed=1)
    assert not recording.proposals
