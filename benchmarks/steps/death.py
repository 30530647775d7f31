"""Death: the time from a server's death until the last process of its sandbox is gone."""

import asyncio
import os
import select
import sys
import time
from pathlib import Path

from benchmarks.steps.killed_server import RUNNING

_ROOT = Path(__file__).parent.parent.parent
_MOST_S = 20.0


async def survival_s(*, trees: int, snapshots: int) -> float:
    """Kill a server with live snapshots and running steps, and measure how long its processes live on."""
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.steps.killed_server", str(trees), str(snapshots)),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    pids = [int(word) for word in (await server.stdout.readline()).split()]
    assert len(pids) >= trees * (1 + snapshots) + len(RUNNING), pids
    pidfds = [os.pidfd_open(pid) for pid in pids]
    try:
        began_s = time.perf_counter()
        server.kill()
        await asyncio.to_thread(_wait_for_all, pidfds)
        took_s = time.perf_counter() - began_s
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
        await server.wait()
    return took_s


def _wait_for_all(pidfds: list[int]) -> None:
    deadline_s = time.perf_counter() + _MOST_S
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(max(0.0, 1000 * (deadline_s - time.perf_counter()))):
            raise SystemExit(f"something is still alive {_MOST_S:g} s after its server was killed")
