"""Served load: searches on real engines and a real sandbox, their cost, and the cost of their calls alone."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from benchmarks.fill.clients import keep_in_flight
from benchmarks.fill.lock_step import LockStep
from benchmarks.fill.modes import Load
from benchmarks.fill.parts import OpenParts
from benchmarks.fill.processor_time import Spent
from benchmarks.fill.recording import Recording
from search import Budget, Event, NodeAdded, Parts, SearchConfig, search
from server.engines.protocols import EngineStats

CORES = len(os.sched_getaffinity(0))
TEMPERATURE = 1.6
"""At temperature 1 the bundled models are so sure of these problems that most candidates are the same. Most searches
then have nothing left to expand after one to five trajectories. At 1.6 they go on as for hard problems."""


@dataclass(slots=True, kw_only=True)
class Served:
    """The measurement of one load, up to its last answer."""

    load: Load
    recording: Recording = field(default_factory=Recording)
    nodes: int = 0
    wall_s: float = 0.0
    spent: Spent | None = None
    batch: float = 0.0
    """Mean number of sequences per decoding step of the policy."""

    @property
    def core_seconds(self) -> float:
        """Wall time times cores."""
        return self.wall_s * CORES

    @property
    def core_seconds_left(self) -> float:
        """Core-seconds that other processes left to this one."""
        assert self.spent is not None
        return max(self.spent.total, self.core_seconds - self.spent.others)

    def figures(self) -> dict[str, float]:
        """Times per request and per node, and the share of each kind in all core-seconds."""
        assert self.spent is not None
        shares = {f"share/{kind}": seconds / self.core_seconds for kind, seconds in self.spent.kinds.items()}
        return {
            "seconds_per_request": self.wall_s / self.load.answers,
            "taken_by_others": self.spent.others / self.core_seconds,
            "core_seconds_per_node": self.spent.total / max(1, self.nodes),
            "nodes_per_request": self.nodes / self.load.answers,
            "tokens_per_second": self.recording.tokens / self.wall_s,
            "policy_batch": self.batch,
            **shares,
            "share/idle": max(0.0, 1 - (self.spent.total + self.spent.others) / self.core_seconds),
        }


async def serve_load(
    load: Load, parts: OpenParts, problems: Sequence[str], *, config: SearchConfig, budget: Budget
) -> Served:
    """Run the load and measure it."""
    served = Served(load=load)
    barrier = LockStep() if load.mode.is_lock_step else None
    config = replace(config, parallel_rollouts=load.mode.rollouts)
    policy_view = parts.policy(_temperature(load))

    def hear(event: Event) -> None:
        served.nodes += isinstance(event, NodeAdded) and not served.recording.is_closed

    async def solve(number: int) -> None:
        async with parts.open_runner(number) as runner:
            bare = Parts(policy=policy_view, runner=runner, equality=parts.equality, scorer=parts.engines.ppm)
            recorded = served.recording.wrap(bare, number)
            with nullcontext(recorded.policy) if barrier is None else barrier.seat(recorded.policy) as policy:
                await search(
                    problems[number],
                    parts=replace(recorded, policy=policy),
                    config=config,
                    budget=budget,
                    seed=number,
                    now=time.monotonic,
                    on_event=hear,
                )

    began_s, before, stats = time.monotonic(), parts.processor_time.read(), parts.engines.policy.stats

    def note() -> None:
        served.recording.close()
        served.wall_s = time.monotonic() - began_s
        served.spent = parts.processor_time.read().since(before)
        served.batch = _mean_batch(stats, parts.engines.policy.stats)

    await keep_in_flight(load.requests, solve, answers=load.answers, then=note)
    return served


async def replay(served: Served, fresh: OpenParts) -> dict[str, float]:
    """Core-seconds of each kind of call, alone and at full batch, on parts that never saw the problems."""
    recording = served.recording
    tokens = 0

    async def propose() -> None:
        nonlocal tokens
        tokens = await recording.propose_again(fresh.policy(_temperature(served.load)))

    alone = {
        "policy": await _core_seconds(fresh, propose),
        "ppm": await _core_seconds(fresh, lambda: recording.score_again(fresh.engines.ppm)),
        "sandbox": await _core_seconds(
            fresh, lambda: recording.run_again(fresh.open_runner, trees=served.load.requests)
        ),
    }
    # Rounding depends on the batch, and a sample on rounding: a repeated proposal may be longer or shorter.
    alone["policy"] *= recording.tokens / max(1, tokens)
    return {
        "efficiency": sum(alone.values()) / served.core_seconds,
        "efficiency/without_others": sum(alone.values()) / served.core_seconds_left,
        **{f"alone/{kind}": seconds / served.core_seconds for kind, seconds in alone.items()},
        "replayed_tokens": tokens / max(1, recording.tokens),
    }


def _temperature(load: Load) -> float:
    return TEMPERATURE if load.mode.temperature is None else load.mode.temperature


async def _core_seconds(parts: OpenParts, work: Callable[[], Awaitable[None]]) -> float:
    before = parts.processor_time.read()
    await work()
    return parts.processor_time.read().since(before).total


def _mean_batch(before: EngineStats, after: EngineStats) -> float:
    batches = sum(after.batch_size_counts) - sum(before.batch_size_counts)
    return (after.batch_size_sum - before.batch_size_sum) / max(1, batches)
