"""Ordinary programs: over two hundred small ones, like solutions to competition problems, behave as in plain Python.

Each runs step by step in the sandbox, and once, its steps joined, in plain Python; what is printed and the last value
must be the same. EXCEPTIONS gives the reason for each difference.
"""

import asyncio
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sandbox import Limits, Outcome, Sandbox

FOLDER = Path(__file__).parent

EXCEPTIONS = {
    "thread-pool": "steps have no threads",
    "process-pool": "steps start no programs",
    "scratch-file": "steps write no files",
    "event-loop": "an event loop needs a socket pair",
    "seed-in-an-earlier-step": "the generators are seeded before every step, so that a replay draws the same",
}

LEAST_SHARE = 0.95

pytestmark = pytest.mark.timeout(600)

Behaviour = tuple[str, str | None, str | None]
"""What was printed, the last value, the type of the exception."""


def _load() -> dict[str, list[str]]:
    programs: dict[str, list[str]] = {}
    for path in sorted((FOLDER / "programs").glob("*.toml")):
        with path.open("rb") as file:
            found = tomllib.load(file)
        assert not found.keys() & programs.keys()
        programs |= found
    return programs


PROGRAMS = _load()
SAMPLE = {name: PROGRAMS[name] for name in [name for name in PROGRAMS if name not in EXCEPTIONS][::10]}
"""Every tenth: some of each file."""


def _run_plain(programs: dict[str, list[str]]) -> dict[str, Behaviour]:
    """The behaviour in plain Python: one process for all."""
    finished = subprocess.run(
        [sys.executable, str(FOLDER / "plain.py")],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    return {name: (stdout, value, error) for name, (stdout, value, error) in json.loads(finished.stdout).items()}


async def _behaviour(sandbox: Sandbox, steps: list[str]) -> Behaviour:
    printed, value, state = "", None, None
    async with sandbox.tree(seed=1) as tree:
        for step in steps:
            result = await tree.run(state, step)
            printed, value, state = printed + result.stdout, result.value, result.snapshot
            if result.outcome is not Outcome.OK:
                return printed, None, (result.error or "").partition(":")[0]
    return printed, value, None


async def _run_confined(sandbox: Sandbox, programs: dict[str, list[str]]) -> dict[str, Behaviour]:
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_behaviour(sandbox, steps)) for name, steps in programs.items()}
    return {name: task.result() for name, task in tasks.items()}


@pytest.fixture(scope="module")
def plain() -> dict[str, Behaviour]:
    return _run_plain(PROGRAMS)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_sample_behaves_as_in_plain_python(patient: Sandbox) -> None:
    assert len(SAMPLE) >= 20
    assert await _run_confined(patient, SAMPLE) == _run_plain(SAMPLE)


@pytest.mark.slow
async def test_programs_behave_as_in_plain_python(plain: dict[str, Behaviour]) -> None:
    limits = Limits(cpu_s=60, wall_s=300)  # sandboxed or not, it is not about time
    async with Sandbox(limits=limits) as sandbox:
        confined = await _run_confined(sandbox, PROGRAMS)
    different = {name: (plain[name], confined[name]) for name in PROGRAMS if plain[name] != confined[name]}
    unexpected = {name: pair for name, pair in different.items() if name not in EXCEPTIONS}
    assert unexpected == {}
    assert different.keys() == EXCEPTIONS.keys()
    assert len(different) <= (1 - LEAST_SHARE) * len(PROGRAMS)


@pytest.mark.slow
def test_there_are_two_hundred_programs_that_work(plain: dict[str, Behaviour]) -> None:
    assert len(PROGRAMS) - len(EXCEPTIONS) >= 200
    assert {name: error for name, (_, _, error) in plain.items() if error is not None} == {}
    silent = [name for name, (stdout, value, _) in plain.items() if not stdout and value is None]
    assert silent == []


def test_no_program_is_there_twice() -> None:
    sources = ["\n".join(steps).strip() for steps in PROGRAMS.values()]
    assert len(set(sources)) == len(sources)
