"""Command line: `run` executes one program under the default limits, `doctor` says what protections hold here."""

import argparse
import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from sandbox import Outcome, Sandbox, SandboxUnavailable, StepResult


def main() -> int:
    """The console script; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a program; exit code 0 when it ends well, else 1")
    run.add_argument("file", type=Path)
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")
    commands.add_parser("doctor", help="say what protections hold on this machine")
    arguments = parser.parse_args()
    try:
        if arguments.command == "doctor":
            return asyncio.run(_doctor())
        code = arguments.file.read_text(encoding="utf-8")
        return asyncio.run(_run(code, as_json=arguments.json))
    except (SandboxUnavailable, OSError, UnicodeDecodeError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2


async def _run(code: str, *, as_json: bool) -> int:
    async with Sandbox(workers=1) as sandbox, sandbox.tree() as tree:
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


async def _doctor() -> int:
    async with Sandbox(workers=1) as sandbox:
        for name, shortfall in sandbox.findings.items():
            print(f"{'on ' if shortfall is None else 'OFF'}  {name}{f': {shortfall}' if shortfall else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
