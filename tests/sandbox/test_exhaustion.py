"""A server that is out of descriptors or processes: the sandbox is unavailable for a while, and loses nothing."""

import errno
import os
from dataclasses import dataclass, field

import pytest

from sandbox import CacheLimits, Limits, Outcome, Sandbox, SandboxUnavailable
from sandbox.family import Family, FamilyEnd
from sandbox.slots import Slots
from sandbox.snapshots import Snapshots
from sandbox.status import Counters
from sandbox.tree import Tree
from sandbox.zygote_process import ZygoteProcess
from tests.descriptors import only_new_descriptors, open_descriptors


@pytest.mark.parametrize("descriptors", range(6))  # a zygote takes more
async def test_a_start_without_descriptors_fails_and_leaves_none(descriptors: int) -> None:
    before = open_descriptors()
    with (
        only_new_descriptors(descriptors),
        pytest.raises(SandboxUnavailable, match="Too many open files") as caught,
    ):
        await ZygoteProcess.start(switched_off=frozenset(), pool=0)
    # `caught` still holds the frames of the start, so that nothing of it was closed by being forgotten.
    assert open_descriptors() == before, caught.value


async def test_a_sandbox_works_again_once_there_are_descriptors() -> None:
    async with Sandbox() as sandbox:
        async with sandbox.tree() as tree:
            with only_new_descriptors(0), pytest.raises(SandboxUnavailable):
                await tree.run(None, "1")
        async with sandbox.tree() as tree:
            assert (await tree.run(None, "1")).outcome is Outcome.OK


@dataclass(slots=True, kw_only=True)
class _NoProcesses:
    """Of a sandbox on a machine that makes no more processes."""

    limits: Limits = field(default_factory=Limits)
    slots: Slots = field(default_factory=lambda: Slots(1))
    counters: Counters = field(default_factory=Counters)
    snapshots: Snapshots = field(default_factory=lambda: Snapshots(CacheLimits(), Counters()))

    async def family(self, tree: Tree) -> Family:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def release(self, family: Family, end: FamilyEnd) -> None:
        raise AssertionError("there are no processes")

    def forget(self, tree: Tree) -> None:
        pass


async def test_a_step_that_gets_no_process_finds_no_sandbox() -> None:
    services = _NoProcesses()
    async with Tree(services, name="t1", seed=0) as tree:
        with pytest.raises(SandboxUnavailable, match="Resource temporarily unavailable"):
            await tree.run(None, "1")
    assert services.slots.idle == 1
