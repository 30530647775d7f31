"""Simulated load: searches on an engine of slots, in simulated time. Measures only the search itself."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace

from benchmarks.fill.clients import keep_in_flight
from benchmarks.fill.lock_step import LockStep
from benchmarks.fill.modes import Load
from benchmarks.fill.slots import SlotEngine
from benchmarks.fill.wordy_world import DECODE_STEP_S, RUN_S, draw_sum, wordy_parts
from search import Budget, CallKind, SearchConfig, search
from search.testing.delays import Delays


async def simulate(load: Load, *, slots: int, config: SearchConfig, budget: Budget) -> dict[str, float]:
    """Slot fill and time per request."""
    now = asyncio.get_running_loop().time
    engine = SlotEngine(slots=slots, step_s=DECODE_STEP_S)
    barrier = LockStep() if load.mode.is_lock_step else None
    figures: dict[str, float] = {}

    async def pause(kind: CallKind, size: int) -> None:
        if kind is CallKind.RUNNER:
            await asyncio.sleep(RUN_S)
        elif kind is CallKind.SCORER:
            await asyncio.sleep(DECODE_STEP_S)

    async def solve(number: int) -> None:
        parts = Delays(pause).wrap(wordy_parts())
        written = engine.policy(parts.policy)
        with nullcontext(written) if barrier is None else barrier.seat(written) as policy:
            await search(
                draw_sum(number).question,
                parts=replace(parts, policy=policy),
                config=replace(config, parallel_rollouts=load.mode.rollouts),
                budget=budget,
                seed=number,
                now=now,
            )

    def note() -> None:
        figures["slot_fill"] = engine.slot_seconds / (slots * now())
        figures["seconds_per_request"] = now() / load.answers

    async with engine.decoding():
        await keep_in_flight(load.requests, solve, answers=load.answers, then=note)
    return figures
