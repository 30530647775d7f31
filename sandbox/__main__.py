"""Command line: `run` executes one program, `doctor` says what protections hold here, `bench` what a step costs."""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path

from sandbox import Level, Outcome, Sandbox, SandboxError, SandboxUnavailable, StepResult, wanted_level
from sandbox.bench import measure


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
    """Looks whatever the level; no step but the doctor's own runs."""
    try:
        async with Sandbox(workers=1, min_level=Level.NONE) as sandbox:
            status = sandbox.status
    except SandboxUnavailable as error:
        print(f"level: {Level.NONE}\n{error}")
        return 1
    print(f"level: {status.level} (wanted: {min_level})")
    for protection in status.protections:
        print(f"{'OFF' if protection.reason else 'on '}  {protection.name}", end="")
        print(f": {protection.reason}" if protection.reason else "")
    print(f"fork gate: {status.fork_gate}")
    print(f"Landlock version: {status.landlock_version or 'none'}")
    print(f"not installed: {', '.join(status.missing_modules) or 'nothing'}")
    for limits in (status.limits, status.cache_limits):
        print(", ".join(f"{name} {value}" for name, value in dataclasses.asdict(limits).items()))
    counters = status.counters
    print(f"live snapshots {status.live_snapshots} ({status.live_bytes >> 20} MB), hit rate {counters.hit_rate}")
    steps = ", ".join(f"{outcome} {count}" for outcome, count in counters.steps.items())
    print(f"violations {counters.violations}; steps: {steps}")
    return 0 if status.level.is_at_least(min_level) else 1


async def _bench(min_level: Level) -> int:
    async with Sandbox(workers=1, min_level=min_level) as sandbox:
        for line in await measure(sandbox):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
