"""The fork gates: a node makes one process, and only on a command of the server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox import Limits, Mechanism, Outcome, Sandbox
from tests.sandbox.processes import nodes_of, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENT = Limits(cpu_s=20, wall_s=60)
DEAR = "import os, time\nspent = time.thread_time() + 0.01\nwhile time.thread_time() < spent: pass\n"

HAMMER = """
import os
made = 0
for _ in range(2000):
    try:
        made += os.fork() > 0
    except OSError:
        pass
made
"""

EXTRA_CHILD = (
    DEAR
    + """
def fork_too():
    try:
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
    except OSError:
        pass
os.register_at_fork(%s=fork_too)
"""
)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["notification", "limit"])
async def gated(request: pytest.FixtureRequest, patient: Sandbox) -> AsyncIterator[Sandbox]:
    if request.param == "notification":
        yield patient
        return
    async with Sandbox(limits=PATIENT, switched_off=frozenset({Mechanism.NOTIFICATION})) as sandbox:
        yield sandbox


async def test_a_step_makes_no_process_while_siblings_are_forked(gated: Sandbox) -> None:
    async with gated.tree() as tree:
        resets = gated.counters.resets
        first = await tree.run(None, "x = 6")
        hammer = await tree.run(first.snapshot, HAMMER)
        assert (hammer.outcome, hammer.value) == (Outcome.OK, "0")
        for _ in range(5):
            assert (await tree.run(first.snapshot, "x * 7")).value == "42"
        assert len(nodes_of(gated.zygote_pid)) == 7
        assert gated.counters.resets == resets


@pytest.mark.parametrize("hook", ["before", "after_in_child", "after_in_parent"])
async def test_a_hook_that_forks_during_a_fork_leaves_nothing(gated: Sandbox, hook: str) -> None:
    async with gated.tree() as tree:
        sound = await tree.run(None, DEAR + "x = 6")
        hostile = await tree.run(None, EXTRA_CHILD % hook)
        await tree.run(hostile.snapshot, "1")
        # Before the next fork in this tree, which would find what this one overlooked.
        assert await until(lambda: len(nodes_of(gated.zygote_pid)) <= gated.status.live_snapshots)
        assert (await tree.run(sound.snapshot, "x * 7")).value == "42"
        assert await until(lambda: len(nodes_of(gated.zygote_pid)) <= gated.status.live_snapshots)
    assert nodes_of(gated.zygote_pid) == set()


async def test_a_bomb_during_a_fork_is_stopped_early(gated: Sandbox) -> None:
    """Where the kernel does not ask, a hook can make more than one process: it must not have the fork's whole time."""
    async with gated.tree() as tree:
        hostile = await tree.run(None, EXTRA_CHILD % "before")
        before = len(nodes_of(gated.zygote_pid))
        most = 0
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(hostile.snapshot, "1"))
            while not running.done():
                most = max(most, len(nodes_of(gated.zygote_pid)) - before)
                await asyncio.sleep(0.01)
        assert running.result().outcome in (Outcome.OK, Outcome.LOST)
        assert most < 100  # some five between two checks; the whole time is room for hundreds


@pytest.mark.slow
async def test_a_step_that_keeps_asking_for_processes_is_killed() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        result = await tree.run(None, HAMMER.replace("2000", "10**9"))
        assert (result.outcome, result.error) == (Outcome.VIOLATION, "kept trying to make processes")
        assert sandbox.counters.violations >= 1
        assert (await tree.run(None, "1")).value == "1"
