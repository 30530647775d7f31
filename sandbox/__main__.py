"""Command line: `run` executes one program, `doctor` says what protections hold here, `bench` what a step costs."""

import argparse
import asyncio
import dataclasses
import json
import os
import statistics
import sys
import time
from pathlib import Path

from sandbox import (
    CacheLimits,
    Level,
    Limits,
    Outcome,
    Protection,
    Sandbox,
    SandboxError,
    SandboxUnavailable,
    StepResult,
    wanted_level,
)

_ABILITIES = frozenset({"ordinary steps", "late imports"})
"""Tested with the protections, since confinement must not break ordinary code."""

_BENCH_DEPTHS = (1, 4, 16)
_BENCH_ROUNDS = 20
"""Fewer than a tree keeps alive: CPU time is read from the processes."""

_BENCH_STEP = "import sympy\nx = sympy.Symbol('x')\nprint(sympy.expand((x + 1) ** 3))"


def main() -> int:
    """The console script; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a program; exit code 0 when it ends well, else 1")
    run.add_argument("file", type=Path)
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")
    commands.add_parser("doctor", help="say what protections hold on this machine; exit code 1 when too few do")
    commands.add_parser("bench", help="compare steps at several depths with a fresh interpreter")
    arguments = parser.parse_args()
    try:
        min_level = wanted_level(os.environ)
        match arguments.command:
            case "doctor":
                return asyncio.run(_doctor(min_level))
            case "bench":
                return asyncio.run(_bench(min_level))
            case _:
                code = arguments.file.read_text(encoding="utf-8")
                return asyncio.run(_run(code, min_level, as_json=arguments.json))
    except (SandboxError, OSError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2


async def _run(code: str, min_level: Level, *, as_json: bool) -> int:
    async with Sandbox(workers=1, min_level=min_level) as sandbox, sandbox.tree() as tree:
        result = await tree.run(None, code)
    if as_json:
        fields = dataclasses.asdict(result)
        del fields["snapshot"]  # names a state that is gone by now
        print(json.dumps(fields))
    else:
        _show(result)
    return 0 if result.outcome is Outcome.OK else 1


def _show(result: StepResult) -> None:
    print(f"outcome: {result.outcome}")
    if result.stdout:
        print(f"output:\n{result.stdout}", end="" if result.stdout.endswith("\n") else "\n")
    if result.value is not None:
        print(f"value: {result.value}")
    if result.error is not None:
        print(f"error: {result.error}")


async def _doctor(min_level: Level) -> int:
    """Starts at any level, as only the self-test's steps run."""
    try:
        async with Sandbox(workers=1, min_level=Level.NONE) as sandbox:
            status = sandbox.status
    except SandboxUnavailable as error:
        print(f"level: {Level.NONE}\n{error}")
        return 1
    print(f"level: {status.level} (wanted: {min_level})")
    print("\nAvailable to steps")
    for ability in (one for one in status.protections if one.name in _ABILITIES):
        print(_line("DOES NOT WORK" if ability.reason else "works", ability))
    print("\nKept from steps, and the layers that keep it")
    for protection in (one for one in status.protections if one.name not in _ABILITIES):
        print(_line("NOT HELD" if protection.reason else "held", protection))
    print(f"\nfork gate: {status.fork_gate}")
    print(f"Landlock version: {status.landlock_version or 'none'}")
    print(f"libraries not installed: {', '.join(status.missing_modules) or 'none'}")
    print(f"limits of a step: {_settings(status.limits)}")
    print(f"limits of snapshots: {_settings(status.cache_limits)}")
    return 0 if status.level.is_at_least(min_level) else 1


def _line(state: str, protection: Protection) -> str:
    return f"  {state:<13}  {protection.name}" + (f": {protection.reason}" if protection.reason else "")


def _settings(limits: Limits | CacheLimits) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(limits).items())


async def _bench(min_level: Level) -> int:
    """Print the cost of a light step at several depths of a tree, and of a fresh interpreter for the same step."""
    async with Sandbox(workers=1, min_level=min_level) as sandbox:
        fresh_wall_ms, fresh_cpu_ms = await _fresh_cost_ms()
        print(f"{'':<18}{'wall ms (median)':>18}{'CPU ms (mean)':>16}{'fresh / this, CPU':>20}")
        print(f"{'fresh interpreter':<18}{fresh_wall_ms:>18.2f}{fresh_cpu_ms:>16.2f}{1:>20.1f}")
        for depth in _BENCH_DEPTHS:
            wall_ms, cpu_ms = await _step_cost_ms(sandbox, depth)
            print(f"{f'snapshot, depth {depth}':<18}{wall_ms:>18.2f}{cpu_ms:>16.2f}{fresh_cpu_ms / cpu_ms:>20.1f}")
    return 0


async def _fresh_cost_ms() -> tuple[float, float]:
    """Wall time, the median of three, and mean CPU time."""
    walls_s: list[float] = []
    before = os.times()
    for _ in range(3):
        started_s = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _BENCH_STEP, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await process.wait()
        walls_s.append(time.perf_counter() - started_s)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return statistics.median(walls_s) * 1000, cpu_s * 1000 / len(walls_s)


async def _step_cost_ms(sandbox: Sandbox, depth: int) -> tuple[float, float]:
    """Median wall time and mean CPU time of siblings at this depth; the first of them is not counted."""
    walls_s: list[float] = []
    async with sandbox.tree(seed=depth) as tree:
        parent = None
        for _ in range(depth - 1):
            parent = (await tree.run(parent, _BENCH_STEP)).snapshot
        await tree.run(parent, _BENCH_STEP)
        before_s = _cpu_s(sandbox)
        for _ in range(_BENCH_ROUNDS):
            started_s = time.perf_counter()
            await tree.run(parent, _BENCH_STEP)
            walls_s.append(time.perf_counter() - started_s)
        cpu_s = _cpu_s(sandbox) - before_s
    return statistics.median(walls_s) * 1000, cpu_s * 1000 / _BENCH_ROUNDS


def _cpu_s(sandbox: Sandbox) -> float:
    """CPU time of this process and of the zygote's whole session."""
    total_s = time.process_time()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == sandbox.zygote_pid:
                    total_s += int((entry / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
            except OSError:
                continue  # it has ended meanwhile
    return total_s


if __name__ == "__main__":
    sys.exit(main())
