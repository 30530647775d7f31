"""Fixtures of the sandbox tests: two sandboxes for all, and a tree in the first."""

import os
import signal
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import Limits, Sandbox, Tree
from tests.sandbox.processes import nodes_of, until

LIMITS = Limits(cpu_s=10, wall_s=60, memory_mb=256)
"""Far beyond what the steps need, also on a busy machine."""

PATIENT = Limits(cpu_s=60, wall_s=60)
"""For steps that are ended otherwise than by a limit."""


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
        assert await until(lambda: not nodes_of(sandbox.zygote_pid))


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def patient() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=PATIENT, workers=2) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="session")
async def tree(sandbox: Sandbox) -> AsyncIterator[Tree]:
    async with sandbox.tree(seed=7) as tree:
        yield tree
