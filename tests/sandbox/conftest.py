"""Fixtures of the sandbox tests: one sandbox per module with short limits, and a look at who is alive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import Limits, Sandbox, Tree

LIMITS = Limits(cpu_s=0.5, wall_s=60, memory_mb=256)
"""A generous wall: on a busy machine half a second of CPU time can take many."""

Nodes = Callable[[int | None], set[int]]


def nodes_of(session: int | None) -> set[int]:
    """Every node of a zygote's session, alive or asleep: neither the launcher, nor the zygote, nor a tree's root."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group, sid, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(sid) == session and int(group) not in (session, int(entry.name)) and state != "Z":
                found.add(int(entry.name))
    return found


@pytest.fixture
def nodes() -> Nodes:
    return nodes_of


async def until_gone(session: int | None) -> None:
    """Killed processes need a moment to go."""
    async with asyncio.timeout(20):
        while nodes_of(session):  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=LIMITS) as sandbox:
        yield sandbox
        await until_gone(sandbox.zygote_pid)


@pytest_asyncio.fixture(loop_scope="module")
async def tree(sandbox: Sandbox) -> AsyncIterator[Tree]:
    async with sandbox.tree(seed=7) as tree:
        yield tree
