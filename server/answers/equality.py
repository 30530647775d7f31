"""Answer equality: the search's `AnswerEquality`, with the comparisons that take algebra in killable worker processes.

What exact arithmetic decides is decided here, at once. The rest goes to a worker under a time limit; a worker that is
late, dies or is left by a cancelled caller is killed, and the next comparison starts a new one. Nothing of an answer is
ever evaluated as code, here or there.
"""

import asyncio
import json
import os
import sys
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

from search.outcomes import Verdict
from server.answers.answers import decide_exactly

DEFAULT_TIMEOUT_S = 2.0
"""A comparison of real answers takes milliseconds; what takes longer than this rarely ends at all."""
START_TIMEOUT_S = 60.0
"""A worker takes about a second to import sympy, more where the machine is busy."""
CACHED_VERDICTS = 10_000
"""About 2 MB. Votes and searches ask about the same few pairs again and again."""
MEMORY_MB = 1_024
"""Address space of a worker. sympy takes 250 MB of it."""

_ROOT = Path(__file__).parents[2]


class EqualityUnavailable(Exception):
    """The worker processes do not start. Not the fault of an answer."""


class EqualityPool:
    """Compares answers; use as an async context manager. Workers start when they are first needed."""

    def __init__(
        self,
        *,
        workers: int = 1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        memory_mb: int = MEMORY_MB,
        cached_verdicts: int = CACHED_VERDICTS,
    ) -> None:
        self._timeout_s = timeout_s
        self._command = (
            sys.executable,
            "-P",
            "-m",
            "server.answers.worker",
            str(os.getpid()),
            str(timeout_s),
            str(memory_mb),
        )
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[asyncio.subprocess.Process] = []
        self._processes: set[asyncio.subprocess.Process] = set()
        self._ready: set[asyncio.subprocess.Process] = set()
        self.restarts = 0
        """Workers that were of use and ended, killed over a comparison or otherwise, as far as that was noticed."""
        self._verdicts: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._cached_verdicts = cached_verdicts
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closed = True
        processes, self._processes = self._processes, set()
        self._idle.clear()
        for process in processes:
            _kill(process)
        for process in processes:
            await process.wait()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers that are running, those that still start included."""
        return tuple(process.pid for process in self._processes if process.returncode is None)

    @property
    def is_ready(self) -> bool:
        """A worker has started and is running."""
        return any(process.returncode is None for process in self._ready)

    async def same(self, a: str, b: str) -> Verdict:
        """Symmetric; UNKNOWN also when time or memory ran out. Cancelling it kills the worker that was on it.

        Raises `EqualityUnavailable` when no worker can be started.
        """
        a, b = sorted((a.strip(), b.strip()))
        if a == b:
            return Verdict.SAME
        verdict = self._verdicts.get((a, b)) or decide_exactly(a, b) or await self._ask_a_worker(a, b)
        self._remember((a, b), verdict)
        return verdict

    async def warm_up(self) -> None:
        """Starts a worker, so that the first comparison need not wait for it."""
        async with self._slots:
            self._idle.append(await self._ready_worker())

    async def _ask_a_worker(self, a: str, b: str) -> Verdict:
        async with self._slots:
            worker = await self._ready_worker()
            is_usable = False
            try:
                async with asyncio.timeout(self._timeout_s):
                    verdict = await _ask(worker, a, b)
                is_usable = True
                self._idle.append(worker)
            except (TimeoutError, ConnectionError, ValueError):
                # Late, or dead: an empty reply is no verdict, hence the ValueError.
                return Verdict.UNKNOWN
            finally:
                if not is_usable:
                    _kill(worker)
            return verdict

    async def _ready_worker(self) -> asyncio.subprocess.Process:
        """An idle worker that is alive, or a new one. The caller holds a slot."""
        self._processes = {process for process in self._processes if process.returncode is None}
        self.restarts += len(self._ready - self._processes)
        self._ready &= self._processes
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
        return await self._started()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._is_closed:
            raise EqualityUnavailable("the pool is closed")
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C meant for the server must not look like a crash of the worker
            )
        except (OSError, RuntimeError) as error:  # the latter where the thread that is to wait for it cannot start
            raise EqualityUnavailable(f"no worker can be started: {error}") from error
        self._processes.add(process)
        is_ready = False
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                is_ready = not self._is_closed and await _line(process) == "ready"
        except TimeoutError:
            pass
        finally:
            if not is_ready:
                _kill(process)
        if not is_ready:
            raise EqualityUnavailable(f"`{' '.join(self._command)}` did not report ready; run it to see why")
        self._ready.add(process)
        return process

    def _remember(self, pair: tuple[str, str], verdict: Verdict) -> None:
        """Also verdicts lost to the time limit: one evil pair must not cost its limit at every vote."""
        self._verdicts[pair] = verdict
        self._verdicts.move_to_end(pair)
        while len(self._verdicts) > self._cached_verdicts:
            self._verdicts.popitem(last=False)


async def _ask(worker: asyncio.subprocess.Process, a: str, b: str) -> Verdict:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps({"a": a, "b": b}).encode() + b"\n")
    await worker.stdin.drain()
    return Verdict(await _line(worker))


async def _line(process: asyncio.subprocess.Process) -> str:
    """The next line it writes; empty once it has ended."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


def _environment() -> dict[str, str]:
    """What a worker needs and nothing else: it reads text written by a model, and has no business with secrets."""
    return {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
