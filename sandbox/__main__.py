"""Command line: `run` executes one program, `doctor` says what protections hold here, `bench` what a step costs."""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path

from sandbox import (
    CacheLimits,
    Level,
    Limits,
    Outcome,
    Sandbox,
    SandboxError,
    SandboxUnavailable,
    StepResult,
    wanted_level,
)
from sandbox.bench import measure
from sandbox.levels import Protection

_ABILITIES = frozenset({"ordinary steps", "late imports"})
"""Looked for among the protections too: confinement that breaks ordinary code is no better than none."""


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
    async with Sandbox(workers=1, min_level=min_level) as sandbox:
        for line in await measure(sandbox):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
