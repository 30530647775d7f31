"""Fixtures of the sandbox tests: one sandbox per module with short limits, and a look at who is alive."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import Limits, Sandbox, Tree

LIMITS = Limits(cpu_s=1, wall_s=60, memory_mb=256)
"""A generous wall: on a busy machine a second of CPU time can take many."""

StepProcesses = Callable[[int | None], set[int]]


def step_processes_of(zygote_pid: int | None) -> set[int]:
    """Every process of a zygote's session, whoever its parent is, without the zygote."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == zygote_pid and fields[0] != "Z":
                found.add(int(entry.name))
    return found - {zygote_pid}


@pytest.fixture
def step_processes() -> StepProcesses:
    return step_processes_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=LIMITS) as sandbox:
        yield sandbox
        assert step_processes_of(sandbox.zygote_pid) == set()


@pytest_asyncio.fixture(loop_scope="module")
async def tree(sandbox: Sandbox) -> AsyncIterator[Tree]:
    async with sandbox.tree(seed=7) as tree:
        yield tree
