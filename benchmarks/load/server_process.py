"""Server process: the benchmark's own server on a free port, measured from outside: /metrics, CPU time, memory."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.fill.processor_time import clock_of
from benchmarks.steps.processes import resident_bytes
from server.settings.settings import PREFIX

BUNDLED = "server"
FREE = "benchmarks.load.free_server"

_ROOT = Path(__file__).resolve().parent.parent.parent
_START_S = 180.0
_STOP_S = 60.0
_ANNOUNCEMENT = "Serving on "
_SAMPLE_S = 0.05
_MB = 1 << 20
_LAST_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The server's own counters and gauges, summed over their labels."""

    totals: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.totals.get(name, 0.0)


@dataclass(slots=True, kw_only=True)
class Memory:
    """Memory of the server process itself, in MB."""

    before_mb: float
    peak_mb: float
    after_mb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A server that is ready."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU time of this process. The sandbox and its steps are other processes."""
        return clock_of(lambda: [self.pid])()

    def resident_mb(self) -> float:
        return resident_bytes(self.pid) / _MB

    async def read(self, client: httpx.AsyncClient) -> Reading:
        """The present values of /metrics."""
        page = (await client.get(f"{self.url}/metrics")).raise_for_status().text
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return Reading(totals=totals)

    @asynccontextmanager
    async def memory(self, *, settle_s: float) -> AsyncGenerator[Memory]:
        """Memory while this is open. `after_mb` is read `settle_s` after the end."""
        memory = Memory(before_mb=self.resident_mb(), peak_mb=self.resident_mb())

        async def sample() -> None:
            while True:
                memory.peak_mb = max(memory.peak_mb, self.resident_mb())
                await asyncio.sleep(_SAMPLE_S)

        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(sample())
            yield memory
            await asyncio.sleep(settle_s)
            sampling.cancel()
        memory.after_mb = self.resident_mb()


@contextmanager
def started(module: str, settings: Mapping[str, object]) -> Generator[ServerProcess]:
    """Run `python -m module`. At the end it gets SIGTERM, and must exit cleanly."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = {f"{PREFIX}{name.upper()}": str(value) for name, value in {"port": 0, **settings}.items()}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=_ROOT,
            env={**kept, **ours},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield ServerProcess(url=_url(process, log), pid=process.pid)
        finally:
            _stop(process, log)


def _url(process: subprocess.Popen[str], log: IO[str]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _START_S)
    line = process.stdout.readline() if readable else ""
    if not line.startswith(_ANNOUNCEMENT):
        raise SystemExit(f"the server did not start:\n{_tail(log)}")
    return line.removeprefix(_ANNOUNCEMENT).partition(";")[0].strip()


def _stop(process: subprocess.Popen[str], log: IO[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise SystemExit(f"the server did not stop within {_STOP_S:g} s:\n{_tail(log)}") from None
    # uvicorn by itself raises the signal again at its end.
    if code not in (0, -signal.SIGTERM):
        raise SystemExit(f"the server ended with {code}:\n{_tail(log)}")


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-_LAST_LINES:])
