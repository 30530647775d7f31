"""Who lives how long: cancelled steps, closed trees, killed zygotes and servers leave nothing behind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import Limits, Outcome, Sandbox, SandboxMisuse, StepResult, Tree

ROOT = Path(__file__).parent.parent.parent
PATIENT = Limits(cpu_s=60, wall_s=60)
FOREVER = "while True: pass"
SHARED = pytest.mark.asyncio(loop_scope="module")

Nodes = Callable[[int | None], set[int]]


async def _until_running(sandbox: Sandbox, count: int, nodes: Nodes) -> set[int]:
    async with asyncio.timeout(10):
        while len(processes := nodes(sandbox.zygote_pid)) < count:  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)
    return processes


def _is_gone(pidfd: int, *, within_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


def _open_descriptors(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=PATIENT, workers=2) as sandbox:
        yield sandbox


@SHARED
async def test_cancelling_a_step_kills_its_process_at_once(patient: Sandbox, nodes: Nodes) -> None:
    async with patient.tree() as tree:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await tree.run(None, FOREVER)
        assert nodes(patient.zygote_pid) == set()
        assert time.monotonic() - started < 2.0
        assert (await tree.run(None, "1")).value == "1"


@SHARED
async def test_cancelling_a_waiting_step_frees_its_place(patient: Sandbox, nodes: Nodes) -> None:
    async with patient.tree() as tree:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(tree.run(None, FOREVER)) for _ in range(2)]
            await _until_running(patient, 2, nodes)
            waiting = group.create_task(tree.run(None, "1"))
            await asyncio.sleep(0)
            for task in (waiting, *running):
                task.cancel()
        assert waiting.cancelled()
        assert (await tree.run(None, "2")).value == "2"


@SHARED
async def test_no_more_steps_run_at_once_than_there_are_workers(patient: Sandbox, nodes: Nodes) -> None:
    async with patient.tree() as tree, asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(tree.run(None, FOREVER))
        await _until_running(patient, 2, nodes)
        assert patient.status.queue_depth == 3
        assert len(nodes(patient.zygote_pid)) == 2
        await tree.close()


@SHARED
async def test_closing_a_tree_ends_its_steps_and_no_others(patient: Sandbox, nodes: Nodes) -> None:
    async with patient.tree() as other:
        tree = patient.tree()
        results: list[StepResult] = []

        async def run(session: Tree, code: str) -> None:
            results.append(await session.run(None, code))

        async with asyncio.TaskGroup() as group:
            group.create_task(run(tree, FOREVER))
            group.create_task(run(other, FOREVER))
            group.create_task(run(tree, "1"))
            await _until_running(patient, 2, nodes)
            await tree.close()
            assert len(nodes(patient.zygote_pid)) == 1
            await other.close()
        assert {result.error for result in results} == {"the tree was closed"}
        with pytest.raises(SandboxMisuse):
            await tree.run(None, "1")


@SHARED
async def test_descriptors_do_not_grow(patient: Sandbox) -> None:
    counts: set[int] = set()
    for _ in range(5):
        async with patient.tree() as tree:
            first = await tree.run(None, "x = 1")
            await tree.run(first.snapshot, "x / 0")
        counts.add(_open_descriptors(os.getpid()) + _open_descriptors(patient.zygote_pid))
    assert len(counts) == 1


async def test_closing_the_sandbox_leaves_no_process(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, asyncio.TaskGroup() as group:
        step = group.create_task(sandbox.tree().run(None, FOREVER))
        processes = await _until_running(sandbox, 1, nodes)
        zygote_pid = sandbox.zygote_pid
        await sandbox.close()
    assert step.result().outcome is Outcome.LOST
    assert not nodes(zygote_pid)
    assert zygote_pid is not None
    for pid in (zygote_pid, *processes):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(SandboxMisuse):
        sandbox.tree()


async def test_a_killed_zygote_is_replaced_and_only_its_steps_are_lost(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            (process,) = await _until_running(sandbox, 1, nodes)
            pidfd = os.pidfd_open(process)
            assert sandbox.zygote_pid is not None
            os.kill(sandbox.zygote_pid, signal.SIGKILL)
        assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")
        assert _is_gone(pidfd, within_s=5)
        os.close(pidfd)
        assert (await tree.run(first.snapshot, "print(x * 7)")).stdout == "42\n"


async def test_a_cancelled_fork_leaves_no_child_and_its_parent_usable(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        for yields in range(12):  # somewhere in between are the moments before, in and after the fork
            async with asyncio.TaskGroup() as group:
                running = group.create_task(tree.run(first.snapshot, FOREVER))
                for _ in range(yields):
                    await asyncio.sleep(0.001)
                running.cancel()
        async with asyncio.timeout(20):
            while len(nodes(sandbox.zygote_pid)) > 1:  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(0.01)
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"


async def test_a_fork_gate_closed_under_load_costs_replays_only() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        before = _listeners()
        nothing = os.open("/dev/null", os.O_RDONLY)
        for listener in before:
            os.dup2(nothing, listener)  # closes it, and keeps its number from being given to something else
        os.close(nothing)
        results: list[StepResult] = []

        async def run() -> None:
            results.append(await tree.run(first.snapshot, "x * 7"))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(run())
        assert len(before) >= 1
        assert {result.outcome for result in results} <= {Outcome.OK, Outcome.LOST}
        async with sandbox.tree() as other:
            assert (await other.run(None, "1")).value == "1"


def _listeners() -> list[int]:
    """Descriptors on which the kernel asks about forks."""
    found: list[int] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except OSError:
            continue
        if "seccomp" in str(target):
            found.append(int(entry.name))
    return found


_SERVER = """
import asyncio, os, sys
from pathlib import Path
from sandbox import Level, Limits, Mechanism, Sandbox

switched_off = frozenset(map(Mechanism, sys.argv[1:]))

def session(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == pid:
                    found.append(entry.name)
            except OSError:
                pass
    return found

async def main():
    limits = Limits(cpu_s=60, wall_s=60)
    async with Sandbox(limits=limits, min_level=Level.REDUCED, switched_off=switched_off) as sandbox:
        async with sandbox.tree() as tree:
            for _ in range(3):
                assert (await tree.run(None, "1")).value == "1"
            async with asyncio.TaskGroup() as group:
                group.create_task(tree.run(None, "while True: pass"))
                group.create_task(tree.run(None, "import time; time.sleep(60)"))
                await asyncio.sleep(1)
                print(*session(sandbox.zygote_pid), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("switched_off", [[], ["namespaces"]])
def test_sigkill_of_the_server_leaves_nothing_alive(switched_off: list[str]) -> None:
    command = [sys.executable, "-c", _SERVER, *switched_off]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(word) for word in server.stdout.readline().split()]
        assert len(pids) >= 8  # launcher, zygote, the tree's root, three snapshots, two running steps
        pidfds = [os.pidfd_open(pid) for pid in pids]
        server.kill()
        assert all(_is_gone(pidfd, within_s=10) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)
