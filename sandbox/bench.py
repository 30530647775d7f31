"""Bench: what a light step costs at several depths of a tree, against a fresh interpreter doing the same."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from sandbox.ending import SnapshotId
from sandbox.sandbox import Sandbox
from sandbox.tree import Tree

_DEPTHS = (1, 4, 16)
_ROUNDS = 20
"""Fewer than a tree keeps alive: CPU time is read from the processes."""

_STEP = "import sympy\nx = sympy.Symbol('x')\nprint(sympy.expand((x + 1) ** 3))"


async def measure(sandbox: Sandbox) -> list[str]:
    """A table as lines."""
    fresh_wall_ms, fresh_cpu_ms = await _measure_fresh()
    lines = [
        f"{'':<18}{'wall ms (median)':>18}{'CPU ms (mean)':>16}{'fresh / this, CPU':>20}",
        f"{'fresh interpreter':<18}{fresh_wall_ms:>18.2f}{fresh_cpu_ms:>16.2f}{1:>20.1f}",
    ]
    async for depth, wall_ms, cpu_ms in _measure_depths(sandbox):
        lines.append(f"{f'snapshot, depth {depth}':<18}{wall_ms:>18.2f}{cpu_ms:>16.2f}{fresh_cpu_ms / cpu_ms:>20.1f}")
    return lines


async def _measure_depths(sandbox: Sandbox) -> AsyncIterator[tuple[int, float, float]]:
    for depth in _DEPTHS:
        async with sandbox.tree(seed=depth) as tree:
            parent = None
            for _ in range(depth - 1):
                parent = (await tree.run(parent, _STEP)).snapshot
            await tree.run(parent, _STEP)
            yield depth, *await _measure_steps(sandbox, tree, parent)


async def _measure_steps(sandbox: Sandbox, tree: Tree, parent: SnapshotId | None) -> tuple[float, float]:
    before_s = _cpu_s(sandbox)
    walls_ms: list[float] = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        await tree.run(parent, _STEP)
        walls_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(walls_ms), (_cpu_s(sandbox) - before_s) * 1000 / _ROUNDS


async def _measure_fresh() -> tuple[float, float]:
    walls_ms: list[float] = []
    before = os.times()
    for _ in range(3):
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _STEP, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await process.wait()
        walls_ms.append((time.perf_counter() - started) * 1000)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return statistics.median(walls_ms), cpu_s * 1000 / len(walls_ms)


def _cpu_s(sandbox: Sandbox) -> float:
    """Of this process and of the zygote's whole session."""
    total_s = time.process_time()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == sandbox.zygote_pid:
                    total_s += int((entry / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
            except OSError:
                continue  # gone meanwhile
    return total_s
