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

StepProcesses = Callable[[int | None], set[int]]


async def _until_running(sandbox: Sandbox, count: int, step_processes: StepProcesses) -> set[int]:
    async with asyncio.timeout(10):
        while len(processes := step_processes(sandbox.zygote_pid)) < count:  # noqa: ASYNC110  # the kernel tells nobody
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
async def test_cancelling_a_step_kills_its_process_at_once(patient: Sandbox, step_processes: StepProcesses) -> None:
    async with patient.tree() as tree:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await tree.run(None, FOREVER)
        assert step_processes(patient.zygote_pid) == set()
        assert time.monotonic() - started < 2.0
        assert (await tree.run(None, "1")).value == "1"


@SHARED
async def test_cancelling_a_waiting_step_frees_its_place(patient: Sandbox, step_processes: StepProcesses) -> None:
    async with patient.tree() as tree:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(tree.run(None, FOREVER)) for _ in range(2)]
            await _until_running(patient, 2, step_processes)
            waiting = group.create_task(tree.run(None, "1"))
            await asyncio.sleep(0)
            for task in (waiting, *running):
                task.cancel()
        assert waiting.cancelled()
        assert (await tree.run(None, "2")).value == "2"


@SHARED
async def test_no_more_steps_run_at_once_than_there_are_workers(
    patient: Sandbox, step_processes: StepProcesses
) -> None:
    counts: set[int] = set()
    async with patient.tree() as tree, asyncio.TaskGroup() as group:
        steps = [group.create_task(tree.run(None, "import time; time.sleep(0.1)")) for _ in range(5)]
        while not all(step.done() for step in steps):
            counts.add(len(step_processes(patient.zygote_pid)))
            await asyncio.sleep(0.01)
    assert {step.result().outcome for step in steps} == {Outcome.OK}
    assert max(counts) == 2


@SHARED
async def test_closing_a_tree_ends_its_steps_and_no_others(patient: Sandbox, step_processes: StepProcesses) -> None:
    async with patient.tree() as other:
        tree = patient.tree()
        results: list[StepResult] = []

        async def run(session: Tree, code: str) -> None:
            results.append(await session.run(None, code))

        async with asyncio.TaskGroup() as group:
            group.create_task(run(tree, FOREVER))
            group.create_task(run(other, FOREVER))
            group.create_task(run(tree, "1"))
            await _until_running(patient, 2, step_processes)
            await tree.close()
            assert len(step_processes(patient.zygote_pid)) == 1
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


async def test_closing_the_sandbox_leaves_no_process(step_processes: StepProcesses) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, asyncio.TaskGroup() as group:
        step = group.create_task(sandbox.tree().run(None, FOREVER))
        processes = await _until_running(sandbox, 1, step_processes)
        zygote_pid = sandbox.zygote_pid
        await sandbox.close()
    assert step.result().outcome is Outcome.LOST
    assert not step_processes(zygote_pid)
    assert zygote_pid is not None
    for pid in (zygote_pid, *processes):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(SandboxMisuse):
        sandbox.tree()


async def test_a_killed_zygote_is_replaced_and_only_its_steps_are_lost(step_processes: StepProcesses) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = 6")
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            (process,) = await _until_running(sandbox, 1, step_processes)
            pidfd = os.pidfd_open(process)
            assert sandbox.zygote_pid is not None
            os.kill(sandbox.zygote_pid, signal.SIGKILL)
        assert (running.result().outcome, running.result().error) == (Outcome.LOST, "the sandbox's zygote ended")
        assert _is_gone(pidfd, within_s=5)
        os.close(pidfd)
        assert (await tree.run(first.snapshot, "print(x * 7)")).stdout == "42\n"


async def test_a_stopped_zygote_is_killed_and_replaced(step_processes: StepProcesses) -> None:
    async with Sandbox(limits=PATIENT) as sandbox, sandbox.tree() as tree:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(tree.run(None, FOREVER))
            await _until_running(sandbox, 1, step_processes)
            assert sandbox.zygote_pid is not None
            os.kill(sandbox.zygote_pid, signal.SIGSTOP)
            running.cancel()
        assert (await tree.run(None, "1")).value == "1"


_SERVER = """
import asyncio
from pathlib import Path
from sandbox import Limits, Sandbox

async def main():
    async with Sandbox(limits=Limits(cpu_s=60, wall_s=60)) as sandbox, sandbox.tree() as tree:
        async with asyncio.TaskGroup() as group:
            group.create_task(tree.run(None, "while True: pass"))
            group.create_task(tree.run(None, "import time; time.sleep(60)"))
            children = Path(f"/proc/{sandbox.zygote_pid}/task/{sandbox.zygote_pid}/children")
            while len(children.read_text().split()) < 2:
                await asyncio.sleep(0.01)
            print(sandbox.zygote_pid, children.read_text(), flush=True)

asyncio.run(main())
"""


def test_sigkill_of_the_server_leaves_nothing_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", _SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(word) for word in server.stdout.readline().split()]
        assert len(pids) == 3
        pidfds = [os.pidfd_open(pid) for pid in pids]
        server.kill()
        assert all(_is_gone(pidfd, within_s=5) for pidfd in pidfds)
        for pidfd in pidfds:
            os.close(pidfd)
