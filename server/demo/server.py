"""The demo's server: a process on a free port, stopped when the demo ends, also when a signal ends the demo."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import httpx

from server.http.schemas import Readiness

START_S = 120.0
"""Loading takes a few seconds, many more from a cold disk or on a busy machine."""
STOP_S = 15.0
"""The server ends its searches and processes in less time. After that it is killed."""
POLL_S = 0.2

_ROOT = Path(__file__).parents[2]
_HOST = "127.0.0.1"
_LOG_LINES = 5


class DemoFailed(Exception):
    """The demo cannot go on; the message is the reason for the user."""


@asynccontextmanager
async def started_server(on_progress: Callable[[Mapping[str, str]], None]) -> AsyncGenerator[str]:
    """The URL of a server that is ready. `on_progress` gets the state of each part while the server is not ready."""
    port = _free_port()
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "--host", _HOST, "--port", str(port), "--drain-s", "0"),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the server in good order
        )
        try:
            url = f"http://{_HOST}:{port}"
            await _wait_until_ready(url, process, log, on_progress)
            yield url
        finally:
            await _stop(process)


async def _wait_until_ready(
    url: str, process: asyncio.subprocess.Process, log: IO[bytes], on_progress: Callable[[Mapping[str, str]], None]
) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        if process.returncode is not None:
            raise DemoFailed(f"the server ended with exit code {process.returncode}:\n{_last_lines(log)}")
        readiness = await asyncio.to_thread(_readiness, url)
        if readiness is not None:
            if readiness.ready:
                return
            on_progress(readiness.parts)
        await asyncio.sleep(POLL_S)
    raise DemoFailed(f"the server was not ready within {START_S:.0f} s:\n{_last_lines(log)}")


def _readiness(url: str) -> Readiness | None:
    """None while the server does not answer."""
    try:
        # Proxies named in the environment are not meant for this machine.
        response = httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return None
    return Readiness.model_validate_json(response.content)


async def _stop(process: asyncio.subprocess.Process) -> None:
    # Not process.terminate(): it first polls, and so may take the exit status from asyncio, which would log a warning.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, TimeoutError):
            if process.returncode is None:
                os.kill(process.pid, number)
            async with asyncio.timeout(STOP_S):
                await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    """Ours without API keys: the demo is its server's only client. PYTHONPATH finds the package from any folder."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith("RSTAR_API_KEYS")}
    return {**ours, "PYTHONPATH": path}


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])
