"""Lifecycle: cancelled steps, closed trees, killed zygotes and servers leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import Limits, Outcome, Sandbox, SandboxMisuse, StepResult, Tree
from tests.descriptors import open_descriptors
from tests.sandbox.processes import (
    children_of,
    close_listeners,
    is_computing,
    is_gone,
    members_of,
    nodes_of,
    until,
    zygote_of,
)

ROOT = Path(__file__).parent.parent.parent
PATIENT = Limits(cpu_s=60, wall_s=60)
FOREVER = "while True: pass"
SHARED = pytest.mark.asyncio(loop_scope="session")


async def _until_running(sandbox: Sandbox, count: int) -> set[int]:
    assert await until(lambda: len(nodes_of(sandbox.zygote_pid)) >= count)
    return nodes_of(sandbox.zygote_pid)


async def _until_computing(sandbox: Sandbox) -> int:
    """A node whose step has begun: one that was only forked when its zygote dies is run again on another."""
    assert await until(lambda: any(map(is_computing, nodes_of(sandbox.zygote_pid))))
    return next(filter(is_computing, nodes_of(sandbox.zygote_pid)))


def _descriptors_of(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@SHARED
async def test_a_cancelled_step_leaves_no_process(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            await _until_computing(patient)
            running.cancel()
        assert running.cancelled()
        assert nodes_of(patient.zygote_pid) == set()
        assert (await tree.run(None, "1")).value == "1"


@SHARED
async def test_cancelling_a_waiting_step_frees_its_place(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(tree.run(None, FOREVER)) for _ in range(2)]
            await _until_running(patient, 2)
            waiting = group.create_task(tree.run(None, "1"))
            await asyncio.sleep(0)
            for task in (waiting, *running):
                task.cancel()
        assert waiting.cancelled()
        assert (await tree.run(None, "2")).value == "2"


@SHARED
async def test_no_more_steps_run_at_once_than_there_are_workers(patient: Sandbox) -> None:
    async with patient.tree() as tree, asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(tree.run(None, FOREVER))
        await _until_running(patient, 2)
        assert patient.status.queue_depth == 3
        assert len(nodes_of(patient.zygote_pid)) == 2
        await tree.close()


@SHARED
async def test_closing_a_tree_ends_its_steps_and_no_others(patient: Sandbox) -> None:
    async with patient.tree() as other:
        tree = patient.tree()
        results: list[StepResult] = []

        async def run(session: Tree, code: str) -> None:
            results.append(await session.run(None, code))

        async with asyncio.TaskGroup() as group:
            group.create_task(run(tree, FOREVER))
            group.create_task(run(other, FOREVER))
            group.create_task(run(tree, "1"))
            await _until_running(patient, 2)
            await tree.close()
            assert len(nodes_of(patient.zygote_pid)) == 1
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
        counts.add(len(open_descriptors()) + _descriptors_of(patient.zygote_pid))
    assert len(counts) == 1


@pytest.mark.slow
async def test_closing_the_sandbox_leaves_no_process() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, asyncio.TaskGroup() as group:
        step = group.create_task(sandbox.tree().run(None, FOREVER))
        processes = await _until_running(sandbox, 1)
        zygote_pid = sandbox.zygote_pid
        await sandbox.close()
    assert step.result().outcome is Outcome.LOST
    assert not nodes_of(zygote_pid)
    assert zygote_pid is not None
    for pid in (zygote_pid, *processes):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(SandboxMisuse):
        sandbox.tree()


@pytest.mark.slow
async def test_a_killed_zygote_is_replaced_and_only_its_steps_are_lost() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            pidfd = os.pidfd_open(await _until_computing(sandbox))
            assert sandbox.zygote_pid is not None
            os.kill(sandbox.zygote_pid, signal.SIGKILL)
        assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")
        assert is_gone(pidfd)
        os.close(pidfd)
        assert (await tree.run(first.snapshot, "print(x * 7)")).stdout == "42\n"


@pytest.mark.slow
async def test_steps_right_after_the_death_of_the_zygote_just_work() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        for generation in range(1, 3):
            launcher = sandbox.zygote_pid
            assert launcher is not None
            zygote = zygote_of(launcher)
            os.kill(zygote if generation % 2 else launcher, signal.SIGKILL)
            # The server cannot know yet: these meet half-dead trees, alive ones, and trees that were made ready.
            fresh = [sandbox.tree() for _ in range(4)]
            async with asyncio.TaskGroup() as group:
                old = group.create_task(tree.run(first.snapshot, "x * 7"))
                new = [group.create_task(other.run(None, "6 * 7")) for other in fresh]
            # A step whose process was killed under it is lost; none is unavailable, or said to have crashed.
            assert {task.result().outcome for task in (old, *new)} <= {Outcome.OK, Outcome.LOST}
            assert (await tree.run(first.snapshot, "x * 7")).value == "42"
            assert [(await other.run(None, "6 * 7")).value for other in fresh] == ["42"] * 4
            for other in fresh:
                await other.close()
        assert sandbox.counters.zygote_restarts == 2
        assert sandbox.counters.steps[Outcome.CRASHED] == 0


@pytest.mark.slow
async def test_a_step_of_a_killed_zygote_is_always_lost() -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                running = group.create_task(tree.run(None, FOREVER))
                await _until_computing(sandbox)
                assert sandbox.zygote_pid is not None
                os.kill(zygote_of(sandbox.zygote_pid), signal.SIGKILL)
            assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")


@SHARED
async def test_dead_trees_in_the_pool_are_skipped(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        assert (await tree.run(None, "1")).value == "1"
    launcher = patient.zygote_pid
    assert launcher is not None
    zygote = zygote_of(launcher)
    assert await until(lambda: len(children_of(zygote)) >= 2), "the pool fills"
    for pid in children_of(zygote):
        os.kill(pid, signal.SIGKILL)
    async with patient.tree() as tree:
        assert (await tree.run(None, "1")).value == "1"
    assert patient.zygote_pid == launcher
    assert patient.counters.zygote_restarts == 0


@pytest.mark.slow  # until it is given up, a zygote has ten seconds
@pytest.mark.parametrize("is_launcher_stopped", [False, True])
async def test_a_stopped_zygote_is_killed_and_replaced(is_launcher_stopped: bool) -> None:  # noqa: FBT001
    async with Sandbox(limits=PATIENT) as sandbox:
        launcher = sandbox.zygote_pid
        assert launcher is not None
        zygote = zygote_of(launcher)
        pidfds = [os.pidfd_open(launcher), os.pidfd_open(zygote)]
        os.kill(zygote, signal.SIGSTOP)
        if is_launcher_stopped:
            os.kill(launcher, signal.SIGSTOP)
        trees = [sandbox.tree() for _ in range(5)]  # more than were made ready
        values = [(await tree.run(None, "6 * 7")).value for tree in trees]
        assert values == ["42"] * 5
        assert sandbox.counters.zygote_restarts == 1
        assert all(is_gone(pidfd) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)


@SHARED
async def test_a_cancelled_fork_leaves_no_child_and_its_parent_usable(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        first = await tree.run(None, "x = 6")
        for yields in range(12):  # somewhere in between are the moments before, in and after the fork
            async with asyncio.TaskGroup() as group:
                running = group.create_task(tree.run(first.snapshot, FOREVER))
                for _ in range(yields):
                    await asyncio.sleep(0.001)
                running.cancel()
        assert await until(lambda: len(nodes_of(patient.zygote_pid)) <= 1)
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"


@SHARED
async def test_a_fork_gate_closed_under_load_costs_replays_only(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        first = await tree.run(None, "x = 6")
        assert close_listeners() >= 1
        results: list[StepResult] = []

        async def run() -> None:
            results.append(await tree.run(first.snapshot, "x * 7"))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(run())
        assert {result.outcome for result in results} <= {Outcome.OK, Outcome.LOST}
        async with patient.tree() as other:
            assert (await other.run(None, "1")).value == "1"


_SERVER = """
import asyncio, signal, sys
from pathlib import Path
from sandbox import Level, Limits, Mechanism, Sandbox
from sandbox.node_process import is_dying
from tests.sandbox.processes import members_of, until

def ignores_hangup(pid):
    try:
        mask = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    except (OSError, IndexError):
        return False
    return int(mask, 16) & 1

deaf = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
deaf += "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\\n"

async def main():
    limits = Limits(cpu_s=60, wall_s=60)
    switched_off = frozenset(map(Mechanism, sys.argv[1:]))
    async with Sandbox(limits=limits, min_level=Level.REDUCED, switched_off=switched_off) as sandbox:
        def session():
            return [pid for pid in members_of(sandbox.zygote_pid) if not is_dying(pid)]

        async with sandbox.tree() as tree:
            for _ in range(3):
                assert (await tree.run(None, "1")).value == "1"
            async with asyncio.TaskGroup() as group:
                group.create_task(tree.run(None, deaf + "while True: pass"))
                group.create_task(tree.run(None, deaf + "time.sleep(60)"))
                assert await until(lambda: len(session()) >= 10 and sum(map(ignores_hangup, session())) >= 2)
                print(sandbox.zygote_pid, *session(), flush=True)

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as below nohup
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("switched_off", "is_alone"),
    [
        pytest.param([], True, id="full-server", marks=pytest.mark.slow),
        pytest.param(["namespaces"], True, id="reduced-server"),
        pytest.param([], False, id="full-server-launcher-zygote", marks=pytest.mark.slow),
        pytest.param(["namespaces"], False, id="reduced-server-launcher-zygote", marks=pytest.mark.slow),
    ],
)
def test_sigkill_of_the_server_leaves_nothing_alive(switched_off: list[str], *, is_alone: bool) -> None:
    """Not even steps that ignore every signal they can, and no process that would have killed them."""
    command = [sys.executable, "-c", _SERVER, *switched_off]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        launcher, *pids = [int(word) for word in server.stdout.readline().split()]
        # Launcher, zygote, the tree's root and two ready ones, three snapshots, two running steps.
        assert len(pids) >= 10
        pidfds = [os.pidfd_open(pid) for pid in pids]
        # The server last: with it the kernel takes the others.
        victims = [server.pid] if is_alone else [zygote_of(launcher), launcher, server.pid]
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):  # so that none has the time to see another's end
            for pid in victims:
                os.kill(pid, signal_number)
        assert all(is_gone(pidfd) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)
    assert members_of(launcher) == {}
