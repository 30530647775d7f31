"""Delays: results of the parts stay the same, and calls in flight are counted."""

import asyncio
import random

import pytest

from search import Budget, SearchConfig, Verdict
from search import search as run_search
from search.calls import CallKind
from search.protocols import Path
from search.testing.delays import Delays, uneven_turns
from search.testing.fakes import SteppingClock, arithmetic_parts


async def test_parts_that_take_their_time_say_the_same() -> None:
    delays = Delays(uneven_turns(random.Random(1)))
    plain, slow = [
        await run_search(
            "3+4+5",
            parts=parts,
            config=SearchConfig(candidates=4),
            budget=Budget(trajectories=6),
            seed=2,
            now=SteppingClock(),
        )
        for parts in (arithmetic_parts(), delays.wrap(arithmetic_parts()))
    ]
    assert slow.tree == plain.tree
    assert delays.counts[CallKind.RUNNER].begun == slow.usage.code_steps


async def test_a_pause_learns_the_size_of_the_work() -> None:
    told: list[tuple[CallKind, int]] = []

    async def pause(kind: CallKind, size: int) -> None:
        told.append((kind, size))

    parts = Delays(pause).wrap(arithmetic_parts())
    path = Path(problem="1+2")
    assert parts.scorer is not None
    await parts.policy.propose(path, 3, seed=0)
    await parts.scorer.score([path, path])
    await parts.runner.run(None, "total = 1")
    assert await parts.equality.same("1", "2") is Verdict.DIFFERENT
    assert told == [(CallKind.POLICY, 4), (CallKind.SCORER, 2), (CallKind.RUNNER, 1), (CallKind.EQUALITY, 1)]


async def test_a_cancelled_call_is_no_longer_in_flight() -> None:
    begun = asyncio.Event()

    async def pause(kind: CallKind, size: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    delays = Delays(pause)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        call = group.create_task(delays.wrap(arithmetic_parts()).runner.run(None, "total = 1"))
        await begun.wait()
        assert delays.in_flight == 1
        call.cancel()
    assert delays.in_flight == 0
    with pytest.raises(asyncio.CancelledError):
        call.result()
