"""Fixtures of the sandbox tests: two sandboxes for all, with short limits and long ones, and a look at who is alive."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import Limits, Sandbox, Tree

LIMITS = Limits(cpu_s=0.5, wall_s=60, memory_mb=256)
"""A generous wall: on a busy machine half a second of CPU time can take many."""

PATIENT = Limits(cpu_s=60, wall_s=60)
"""For steps that are ended otherwise than by a limit."""

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


@contextmanager
def _something_to_inherit() -> Generator[None]:
    """What this process must not pass on: a variable, a descriptor, a signal ignored as below nohup, a blocked one."""
    with Path("/etc/hostname").open() as held, pytest.MonkeyPatch.context() as patch:
        os.set_inheritable(held.fileno(), True)
        patch.setenv("RSTAR_SECRET", "hush")
        was_handled = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        was_blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, was_handled)
            signal.pthread_sigmask(signal.SIG_SETMASK, was_blocked)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with AsyncExitStack() as stack:
        with _something_to_inherit():
            sandbox = await stack.enter_async_context(Sandbox(limits=LIMITS))
        yield sandbox
        await until_gone(sandbox.zygote_pid)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def patient() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=PATIENT, workers=2) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="session")
async def tree(sandbox: Sandbox) -> AsyncIterator[Tree]:
    async with sandbox.tree(seed=7) as tree:
        yield tree
