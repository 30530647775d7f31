"""Who lives how long: cancelled steps, closed trees, killed zygotes and servers leave nothing behind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Limits, Outcome, Sandbox, SandboxMisuse, StepResult, Tree

ROOT = Path(__file__).parent.parent.parent
PATIENT = Limits(cpu_s=60, wall_s=60)
FOREVER = "while True: pass"
SHARED = pytest.mark.asyncio(loop_scope="session")

Nodes = Callable[[int | None], set[int]]


async def _until_running(sandbox: Sandbox, count: int, nodes: Nodes) -> set[int]:
    async with asyncio.timeout(10):
        while len(processes := nodes(sandbox.zygote_pid)) < count:  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)
    return processes


async def _until_computing(sandbox: Sandbox, nodes: Nodes) -> int:
    """A node whose step has begun: one that was only forked when its zygote dies is run again on another."""
    async with asyncio.timeout(60):
        while True:
            for pid in nodes(sandbox.zygote_pid):
                if _cpu_ticks(pid) >= 0.1 * os.sysconf("SC_CLK_TCK"):
                    return pid
            await asyncio.sleep(0.01)


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _is_gone(pidfd: int, *, within_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


def _open_descriptors(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


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


@pytest.mark.slow
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


@pytest.mark.slow
async def test_a_killed_zygote_is_replaced_and_only_its_steps_are_lost(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            pidfd = os.pidfd_open(await _until_computing(sandbox, nodes))
            assert sandbox.zygote_pid is not None
            os.kill(sandbox.zygote_pid, signal.SIGKILL)
        assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")
        assert _is_gone(pidfd, within_s=5)
        os.close(pidfd)
        assert (await tree.run(first.snapshot, "print(x * 7)")).stdout == "42\n"


@pytest.mark.slow
async def test_steps_right_after_the_death_of_the_zygote_just_work(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        for generation in range(1, 3):
            launcher = sandbox.zygote_pid
            assert launcher is not None
            zygote = _child_in_session(launcher)
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
async def test_a_step_of_a_killed_zygote_is_lost_however_the_news_arrives(nodes: Nodes) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                running = group.create_task(tree.run(None, FOREVER))
                await _until_computing(sandbox, nodes)
                assert sandbox.zygote_pid is not None
                os.kill(_child_in_session(sandbox.zygote_pid), signal.SIGKILL)
            assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")


@SHARED
async def test_dead_trees_in_the_pool_are_passed_by(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        assert (await tree.run(None, "1")).value == "1"
    launcher = patient.zygote_pid
    assert launcher is not None
    async with asyncio.timeout(20):
        while len(ready := _children(_child_in_session(launcher))) < 2:  # noqa: ASYNC110  # the pool fills
            await asyncio.sleep(0.01)
    for pid in ready:
        os.kill(pid, signal.SIGKILL)
    async with patient.tree() as tree:
        assert (await tree.run(None, "1")).value == "1"
    assert patient.zygote_pid == launcher
    assert patient.counters.zygote_restarts == 0


@pytest.mark.slow  # until it is given up, a zygote has ten seconds
@pytest.mark.parametrize("is_launcher_stopped", [False, True])
async def test_a_stopped_zygote_is_given_up_and_replaced(is_launcher_stopped: bool) -> None:  # noqa: FBT001
    async with Sandbox(limits=PATIENT) as sandbox:
        launcher = sandbox.zygote_pid
        assert launcher is not None
        zygote = _child_in_session(launcher)
        pidfds = [os.pidfd_open(launcher), os.pidfd_open(zygote)]
        os.kill(zygote, signal.SIGSTOP)
        if is_launcher_stopped:
            os.kill(launcher, signal.SIGSTOP)
        trees = [sandbox.tree() for _ in range(5)]  # more than were made ready
        values = [(await tree.run(None, "6 * 7")).value for tree in trees]
        assert values == ["42"] * 5
        assert sandbox.counters.zygote_restarts == 1
        assert all(_is_gone(pidfd, within_s=10) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)


def _children(parent: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _child_in_session(launcher: int) -> int:
    """The zygote."""
    (zygote,) = _children(launcher)
    return zygote


@SHARED
async def test_a_cancelled_fork_leaves_no_child_and_its_parent_usable(patient: Sandbox, nodes: Nodes) -> None:
    async with patient.tree() as tree:
        first = await tree.run(None, "x = 6")
        for yields in range(12):  # somewhere in between are the moments before, in and after the fork
            async with asyncio.TaskGroup() as group:
                running = group.create_task(tree.run(first.snapshot, FOREVER))
                for _ in range(yields):
                    await asyncio.sleep(0.001)
                running.cancel()
        async with asyncio.timeout(20):
            while len(nodes(patient.zygote_pid)) > 1:  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(0.01)
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"


@SHARED
async def test_a_fork_gate_closed_under_load_costs_replays_only(patient: Sandbox) -> None:
    async with patient.tree() as tree:
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
        async with patient.tree() as other:
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
import asyncio, os, signal, sys
from pathlib import Path
from sandbox import Level, Limits, Mechanism, Sandbox
from sandbox.node_process import is_dying

switched_off = frozenset(map(Mechanism, sys.argv[1:]))

def session(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == pid and not is_dying(int(entry.name)):
                    found.append(entry.name)
            except OSError:
                pass
    return found

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
    async with Sandbox(limits=limits, min_level=Level.REDUCED, switched_off=switched_off) as sandbox:
        async with sandbox.tree() as tree:
            for _ in range(3):
                assert (await tree.run(None, "1")).value == "1"
            async with asyncio.TaskGroup() as group:
                group.create_task(tree.run(None, deaf + "while True: pass"))
                group.create_task(tree.run(None, deaf + "time.sleep(60)"))
                while len(pids := session(sandbox.zygote_pid)) < 10 or sum(map(ignores_hangup, pids)) < 2:
                    await asyncio.sleep(0.01)
                print(sandbox.zygote_pid, *pids, flush=True)

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
    """Neither steps that are deaf to every signal that they may be deaf to, nor those who would have killed them."""
    command = [sys.executable, "-c", _SERVER, *switched_off]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        launcher, *pids = [int(word) for word in server.stdout.readline().split()]
        assert (
            len(pids) >= 10
        )  # launcher, zygote, the tree's root and two ready ones, three snapshots, two running steps
        pidfds = [os.pidfd_open(pid) for pid in pids]
        # The server last: with it the kernel takes the others.
        victims = [server.pid] if is_alone else [_child_in_session(launcher), launcher, server.pid]
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):  # so that none has the time to see another's end
            for pid in victims:
                os.kill(pid, signal_number)
        assert all(_is_gone(pidfd, within_s=10) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)
    assert _living_in_session(launcher) == set()


def _living_in_session(session: int) -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, sid, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(sid) == session and state not in "ZX":
                found.add(int(entry.name))
    return found
