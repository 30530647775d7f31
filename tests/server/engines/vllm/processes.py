"""The CPU time of an engine's processes, as the kernel counts it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path as FilePath

Processes = Callable[[], Iterable[int]]
"""The ids of an engine's processes."""
Work = Callable[[], Awaitable[object]]
"""Makes the engine run one pass."""

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SETTLING_S, _IDLE_S = 0.1, 0.8
"""After a pass: what the engine has left to do, then idleness. Together less than the second in which readers spin."""
_SPINNER = "import os\nprint(flush=True)\nwhile True: os.sched_yield()"


def command_of(process_id: int) -> str:
    return FilePath(f"/proc/{process_id}/cmdline").read_text()


def cpu_s(process_ids: Iterable[int]) -> float:
    """CPU seconds so far of all threads of these processes, and of their children that have ended."""
    ticks = 0
    for process_id in process_ids:
        stat = FilePath(f"/proc/{process_id}/stat").read_text()
        ticks += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return ticks * _TICK_S


async def idle_share(engine: Processes, work: Work, *, rounds: int) -> float:
    """CPU time of an engine after each pass, as a share of that of a process which never sleeps.

    Both get less on a busy machine, and the share stays.
    """
    used_s = spun_s = 0.0
    with _spinning() as spinner:
        for _ in range(rounds):
            await work()
            await asyncio.sleep(_SETTLING_S)
            used_s, spun_s = used_s - cpu_s(engine()), spun_s - cpu_s([spinner])
            await asyncio.sleep(_IDLE_S)
            used_s, spun_s = used_s + cpu_s(engine()), spun_s + cpu_s([spinner])
    return used_s / spun_s


async def pass_s(engine: Processes, work: Work, *, passes: int, pause_s: float) -> float:
    """CPU seconds of an engine per pass, where a pause follows each."""
    before_s = cpu_s(engine())
    for _ in range(passes):
        await work()
        await asyncio.sleep(pause_s)
    return (cpu_s(engine()) - before_s) / passes


@contextmanager
def _spinning() -> Generator[int]:
    """The id of a process that yields and never sleeps, as vLLM's readers do."""
    command = [sys.executable, "-I", "-S", "-c", _SPINNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()
