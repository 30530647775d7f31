"""Walks: runs one chain to its end in one of the compared ways, and measures the cost of each depth.

All ways must print the same. CPU time is that of every process involved, this one included.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from benchmarks.steps.chains import Chain
from benchmarks.steps.meter import CpuMeter
from sandbox import Outcome, Sandbox

REPLAYER = Path(__file__).with_name("replayer.py")


@dataclass(slots=True, kw_only=True)
class Walk:
    """The costs of one walk, by depth from 1 on."""

    cpu_s: list[float] = field(default_factory=list[float])
    overhead_s: list[float] = field(default_factory=list[float])
    """CPU time without that of the step itself, if that is known."""
    wall_s: list[float] = field(default_factory=list[float])
    printed: list[str] = field(default_factory=list[str])
    """Text printed by the path up to here."""

    @property
    def mean_cpu_s(self) -> float:
        return mean(self.cpu_s)


Way = Callable[[Chain], Awaitable[Walk]]


def on_sandbox(sandbox: Sandbox, meter: CpuMeter, *, replays: bool = False) -> Way:
    """Run each step in a node of a tree. The cost of ending the tree is divided among the steps."""

    async def walk_chain(chain: Chain) -> Walk:
        walk = Walk()
        replayed = sandbox.counters.replayed_steps
        async with sandbox.tree(seed=1) as tree:
            # The tree's first processes, and the next ones for the pool, are not part of a step's cost.
            await tree.run(None, "")
            await meter.quiet()
            parent, printed = None, ""
            for step in chain.steps:
                began_s, began_cpu_s = time.perf_counter(), meter.read_s()
                result = await tree.run(parent, step)
                cpu_s = meter.read_s() - began_cpu_s
                walk.wall_s.append(time.perf_counter() - began_s)
                walk.cpu_s.append(cpu_s)
                walk.overhead_s.append(cpu_s - result.cpu_seconds)
                assert result.outcome is Outcome.OK, (chain.name, step, result)
                parent, printed = result.snapshot, printed + result.stdout
                walk.printed.append(printed)
            closing_cpu_s = meter.read_s()
        share_s = (await meter.quiet() - closing_cpu_s) / len(chain.steps)
        walk.cpu_s = [cpu_s + share_s for cpu_s in walk.cpu_s]
        walk.overhead_s = [cpu_s + share_s for cpu_s in walk.overhead_s]
        replayed = sandbox.counters.replayed_steps - replayed
        assert replayed == (sum(range(len(chain.steps))) if replays else 0), replayed
        return walk

    return walk_chain


def in_fresh_processes(meter: CpuMeter) -> Way:
    """Run each path in a new interpreter, which imports the modules that the first step of the path imports."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    async def walk_chain(chain: Chain) -> Walk:
        walk = Walk()
        for depth in range(1, len(chain.steps) + 1):
            program = "\n".join(chain.steps[:depth])
            began_s, began_cpu_s = time.perf_counter(), meter.read_s()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await process.communicate()
            walk.cpu_s.append(meter.read_s() - began_cpu_s)
            walk.wall_s.append(time.perf_counter() - began_s)
            assert process.returncode == 0, (chain.name, depth)
            walk.printed.append(printed.decode())
        return walk

    return walk_chain


@asynccontextmanager
async def in_one_process() -> AsyncGenerator[Way]:
    """Run each path by `exec` in one lasting interpreter, without isolation. The exchange itself is not counted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(REPLAYER)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asking, answering = process.stdin, process.stdout

    async def walk_chain(chain: Chain) -> Walk:
        asking.write(json.dumps(chain.steps).encode() + b"\n")
        await asking.drain()
        answer = json.loads(await answering.readline())
        return Walk(cpu_s=answer["cpu_s"], wall_s=answer["wall_s"], printed=answer["printed"])

    try:
        yield walk_chain
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
