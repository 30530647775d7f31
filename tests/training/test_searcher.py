"""Work runs concurrently and in other processes, which end with the run that started them, even if it is killed."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.searcher import run_concurrently, worker_pool

ROOT = Path(__file__).parents[2]
RUN = """
import os, time
from training.searcher import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(*{future.result() for future in [pool.submit(os.getpid) for _ in range(8)]}, flush=True)
        pool.submit(time.sleep, 600).result()
"""


async def test_no_more_items_are_worked_on_than_asked_for() -> None:
    active, most, done = 0, 0, set[int]()

    async def work(item: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1
        done.add(item)

    await run_concurrently(range(10), work, concurrency=3)
    assert (most, done) == (3, set(range(10)))


async def test_the_first_failure_ends_all_work() -> None:
    async def work(item: int) -> None:
        if item == 1:
            raise ValueError("item 1")
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await run_concurrently(range(10), work, concurrency=2)


@pytest.mark.slow
def test_work_is_done_in_other_processes() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result(timeout=100) != os.getpid()


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert workers
        watched = [os.pidfd_open(pid) for pid in workers]
        run.send_signal(signal.SIGKILL)
        gone = [bool(select.select([descriptor], [], [], 60)[0]) for descriptor in watched]
    for descriptor in watched:
        os.close(descriptor)
    assert all(gone)
