"""Cancelling: how long engine and sandbox work on after a search was cancelled, and how many tokens that wastes."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fill.parts import OpenParts
from benchmarks.fill.served_load import TEMPERATURE
from benchmarks.steps.processes import members
from search import Budget, Candidate, Parts, Policy, SearchConfig, search
from search import Path as SearchPath
from server.engines.protocols import EngineStats

CANDIDATES = 16
_ENOUGH_S = 60.0
"""Longer than any step here. A broken engine would never be idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """One search, cancelled with `CANDIDATES` candidates in flight or more."""

    in_flight: int
    """Candidates in flight at that moment."""
    idle_s: float
    """Time until the engines held none of its requests and its processes were gone."""
    tokens: int
    """Tokens generated after that moment. The search's tasks are cancelled one after the other, in a few turns of the
    event loop, and the engine may begin another step meanwhile."""
    tokens_after_return: int
    """Tokens generated after the search had returned, by the steps that were running then."""


async def cancel_one(parts: OpenParts, problem: str, *, seed: int) -> Cancelled:
    """Cancel the search once the sandbox has processes for it and enough candidates are being generated."""
    engines = parts.engines
    session = None if parts.sandbox.zygote_pid is None else os.getsid(parts.sandbox.zygote_pid)

    policy = _CountedPolicy(parts.policy(TEMPERATURE))
    at_return = 0

    async def solve() -> None:
        nonlocal at_return
        async with parts.open_runner(seed) as runner:
            try:
                await search(
                    problem,
                    parts=Parts(policy=policy, runner=runner, equality=parts.equality, scorer=engines.ppm),
                    config=SearchConfig(candidates=CANDIDATES, parallel_rollouts=4),
                    budget=Budget(trajectories=256),
                    seed=seed,
                    now=time.monotonic,
                )
            finally:
                at_return = engines.policy.stats.tokens_generated

    def nodes() -> list[int]:
        return [process.pid for process in members(session) if process.is_node(session or 0)]

    async with asyncio.timeout(_ENOUGH_S), asyncio.TaskGroup() as group:
        task = group.create_task(solve())
        await _until(lambda: engines.policy.stats.running >= CANDIDATES and bool(nodes()))
        in_flight, before, began_s = policy.in_flight, engines.policy.stats.tokens_generated, time.monotonic()
        task.cancel()
        await _until(lambda: _is_idle(engines.policy.stats) and _is_idle(engines.ppm.stats) and task.done())
        left = set(nodes())
        await _until(lambda: not any(_is_alive(pid) for pid in left))
        idle_s = time.monotonic() - began_s
    return Cancelled(
        in_flight=in_flight,
        idle_s=idle_s,
        tokens=engines.policy.stats.tokens_generated - before,
        tokens_after_return=engines.policy.stats.tokens_generated - at_return,
    )


@dataclass(slots=True)
class _CountedPolicy:
    """Counts the candidates that were requested and have not been returned."""

    policy: Policy
    in_flight: int = 0

    async def propose(self, path: SearchPath, n: int, *, seed: int) -> Sequence[Candidate]:
        self.in_flight += n
        try:
            return await self.policy.propose(path, n, seed=seed)
        finally:
            self.in_flight -= n


def _is_idle(stats: EngineStats) -> bool:
    return not stats.running and not stats.waiting


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # engines and kernel tell nobody
        await asyncio.sleep(0.001)
