"""Equality: implements the search's `AnswerEquality`; comparisons that take algebra run in killable worker processes.

Exact arithmetic decides most pairs at once, in this process. The others go to a worker under a time limit. A worker
that is late, dies, or is left by a cancelled caller is killed, and the next comparison starts a new one. No part of an
answer is ever evaluated as code.
"""

import asyncio
import json
import os
import signal
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from search import Verdict
from server.answers.comparison import decide_exactly

DEFAULT_TIMEOUT_S = 2.0
"""A comparison of real answers takes milliseconds; what takes longer than this rarely ends at all."""
START_TIMEOUT_S = 60.0
"""A worker takes about a second to import sympy, more where the machine is busy."""
CACHED_VERDICTS = 10_000
"""About 2 MB. Votes and searches ask about the same few pairs again and again."""
MEMORY_MB = 1_024
"""Address space of a worker. sympy takes 250 MB of it."""

_ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
}
"""All that a worker gets: it reads text written by a model, and must not see secrets."""


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
        arguments = (str(os.getpid()), str(timeout_s), str(memory_mb))
        self._command = (sys.executable, "-P", "-m", "server.answers.worker", *arguments)
        self._slots = asyncio.Semaphore(workers)
        self._processes: set[asyncio.subprocess.Process] = set()
        self._ready: set[asyncio.subprocess.Process] = set()
        self._idle: list[asyncio.subprocess.Process] = []
        self.restarts = 0
        """Workers that had become ready and ended. Counted when the next comparison needs a worker."""
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
        """Pids of the workers that are running, including those that are starting."""
        return tuple(process.pid for process in self._processes if process.returncode is None)

    @property
    def is_ready(self) -> bool:
        """A worker has started and is running."""
        return any(process.returncode is None for process in self._ready)

    async def same(self, a: str, b: str) -> Verdict:
        """Symmetric; UNKNOWN also when time or memory ran out. A cancelled call kills the worker that was on it.

        Raises `EqualityUnavailable` when no worker can be started.
        """
        a, b = sorted((a.strip(), b.strip()))
        if a == b:
            return Verdict.SAME
        verdict = self._verdicts.get((a, b)) or decide_exactly(a, b) or await self._ask_worker(a, b)
        self._cache((a, b), verdict)
        return verdict

    async def warm_up(self) -> None:
        """Starts a worker, so that the first comparison need not wait for it."""
        async with self._slots:
            self._idle.append(await self._ready_worker())

    async def _ask_worker(self, a: str, b: str) -> Verdict:
        async with self._slots:
            worker = await self._ready_worker()
            reply = await _reply(worker, json.dumps({"a": a, "b": b}) + "\n", timeout_s=self._timeout_s)
            if reply is None:
                return Verdict.UNKNOWN
            self._idle.append(worker)
            return Verdict(reply)

    async def _ready_worker(self) -> asyncio.subprocess.Process:
        """An idle worker that is alive, or a new one. The caller holds a slot."""
        self._processes = {process for process in self._processes if process.returncode is None}
        self.restarts += len(self._ready - self._processes)
        self._ready &= self._processes
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
        return await self._started_worker()

    async def _started_worker(self) -> asyncio.subprocess.Process:
        if self._is_closed:
            raise EqualityUnavailable("the pool is closed")
        try:
            worker = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_ENVIRONMENT,
                start_new_session=True,  # a Ctrl-C meant for the server must not look like a crash of the worker
            )
        except (OSError, RuntimeError) as error:  # RuntimeError: the thread that waits for the process cannot start
            raise EqualityUnavailable(f"no worker can be started: {error}") from error
        self._processes.add(worker)
        if self._is_closed:  # closed while the process was created, so nothing else would kill it
            _kill(worker)
        if await _reply(worker, "", timeout_s=START_TIMEOUT_S) != "ready":
            raise EqualityUnavailable(f"`{' '.join(self._command)}` did not report ready; run it to see why")
        self._ready.add(worker)
        return worker

    def _cache(self, pair: tuple[str, str], verdict: Verdict) -> None:
        """Also keeps verdicts lost to the time limit: a hostile pair must not cost its limit at every vote."""
        self._verdicts[pair] = verdict
        self._verdicts.move_to_end(pair)
        while len(self._verdicts) > self._cached_verdicts:
            self._verdicts.popitem(last=False)


async def _reply(worker: asyncio.subprocess.Process, request: str, *, timeout_s: float) -> str | None:
    """The worker's next line. Kills a worker that is late, has died, or whose caller is cancelled."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    reply = None
    try:
        async with asyncio.timeout(timeout_s):
            worker.stdin.write(request.encode())
            await worker.stdin.drain()
            line = await worker.stdout.readline()
            if line.endswith(b"\n"):
                reply = line.decode().strip()
    except (TimeoutError, ConnectionError):
        pass
    finally:
        if reply is None:
            _kill(worker)
    return reply


def _kill(process: asyncio.subprocess.Process) -> None:
    # Not process.kill(): it first polls, and so may take the exit status from asyncio, which would log a warning.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
