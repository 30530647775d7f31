"""Command: runs the whole hostile suite once, in a process of its own, and prints one JSON line for each case.

    python -m tests.sandbox.hostile all|no-namespaces|no-landlock|no-notification|no-filter [--ordinary-user]
    python -m tests.sandbox.hostile all --only 93,94

Quick cases run one by one, with every descriptor counted after each; those that run into a deadline run a few at once,
each in a sandbox of its own. Exit codes: 3 where the machine cannot give this configuration, 4 where it cannot give an
ordinary user; the reason is on standard error.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator

from sandbox import SandboxUnavailable
from tests.descriptors import open_descriptors
from tests.sandbox.hostile.arena import PATIENCE_S, Arena, open_arena
from tests.sandbox.hostile.cases import HASTY, LIMITS, Case, load_cases
from tests.sandbox.hostile.configurations import EXIT_UNAVAILABLE, Configuration
from tests.sandbox.hostile.ground import Ground
from tests.sandbox.hostile.identity import EXIT_NO_USER, CannotSwitch, become_ordinary_user, open_way
from tests.sandbox.hostile.races import RACES, Race
from tests.sandbox.processes import until

_LANES = 3
"""Deadlines are mostly waiting: one lane more than the smallest machine has cores."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=Configuration, choices=list(Configuration))
    parser.add_argument("--ordinary-user", action="store_true")
    parser.add_argument("--only", help="numbers of cases, separated by commas")
    arguments = parser.parse_args()
    try:
        if arguments.ordinary_user:
            become_ordinary_user([word for word in sys.argv[1:] if word != "--ordinary-user"])
        if arguments.configuration is Configuration.NO_NAMESPACES:
            # Without a mount view steps reach the interpreter only where any user does.
            open_way()
        only = {int(number) for number in arguments.only.split(",")} if arguments.only else None
        asyncio.run(_run(arguments.configuration, only))
    except (SandboxUnavailable, CannotSwitch) as error:
        print(error, file=sys.stderr)
        return EXIT_UNAVAILABLE if isinstance(error, SandboxUnavailable) else EXIT_NO_USER
    return 0


async def _run(configuration: Configuration, only: set[int] | None) -> None:
    cases = [case for case in load_cases() if only is None or case.number in only]
    races = [race for race in RACES if only is None or race.number in only]
    with Ground() as ground:
        before = len(open_descriptors())
        async with open_arena(configuration, ground, LIMITS) as arena:
            for case in (case for case in cases if not case.is_slow):
                await _run_case(arena, case, is_alone=True)
            for race in races:
                await _run_race(arena, race)
        slow = [case for case in cases if case.is_slow]
        waiting = iter(slow)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_LANES, len(slow))):
                group.create_task(_run_lane(configuration, ground, waiting))
        _print(0, "nothing is left", await _leftovers(before), 0.0)


async def _run_lane(configuration: Configuration, ground: Ground, waiting: Iterator[Case]) -> None:
    async with open_arena(configuration, ground, HASTY) as arena:
        for case in waiting:
            await _run_case(arena, case, is_alone=False)


async def _run_case(arena: Arena, case: Case, *, is_alone: bool) -> None:
    started = time.monotonic()
    complaints = await arena.complaints_about(case, is_alone=is_alone)
    _print(case.number, case.name, complaints, time.monotonic() - started)


async def _run_race(arena: Arena, race: Race) -> None:
    started = time.monotonic()
    complaints = await arena.watched(race.run(arena), is_alone=True)
    _print(race.number, race.name, complaints, time.monotonic() - started)


async def _leftovers(descriptors_before: int) -> list[str]:
    if await until(lambda: len(open_descriptors()) <= descriptors_before, within_s=PATIENCE_S):
        return []
    return [f"{len(open_descriptors())} descriptors instead of {descriptors_before}"]


def _print(number: int, name: str, complaints: list[str], seconds: float) -> None:
    print(json.dumps({"number": number, "name": name, "complaints": complaints, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
