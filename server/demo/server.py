"""Demo server: a server of the demo's own, as a process on a free port, gone when the demo is done with it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx

from server.demo.signals import signals_held
from server.http.schemas import Readiness

START_S = 120.0
"""Loading takes a few seconds; a cold disk or a busy machine can stretch that a good deal."""
STOP_S = 15.0
"""The server cancels its searches and closes its processes in less; after that it is killed, and they with it."""
POLL_S = 0.2

_ROOT = Path(__file__).parents[2]
_HOST = "127.0.0.1"
_LOG_LINES = 5


class DemoFailed(Exception):
    """The demo cannot go on; the message is the reason for the user."""


@contextmanager
def started_server(on_progress: Callable[[Mapping[str, str]], None]) -> Generator[str]:
    """The URL of a server that is ready; `on_progress` hears what each part says while it is not."""
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        port = _free_port()
        # A signal between the start and the promise to stop would leave the server running.
        with signals_held():
            process = subprocess.Popen(
                [sys.executable, "-m", "server", "--host", _HOST, "--port", str(port), "--drain-s", "0"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server in good order
            )
            stack.callback(_stop, process)
        url = f"http://{_HOST}:{port}"
        _wait_until_ready(url, process, log, on_progress)
        yield url


def _wait_until_ready(
    url: str, process: subprocess.Popen[bytes], log: IO[bytes], on_progress: Callable[[Mapping[str, str]], None]
) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            raise DemoFailed(f"the server ended with exit code {process.returncode}:\n{_last_lines(log)}")
        readiness = _readiness(url)
        if readiness is not None:
            if readiness.ready:
                return
            on_progress(readiness.parts)
        time.sleep(POLL_S)
    raise DemoFailed(f"the server was not ready within {START_S:.0f} s:\n{_last_lines(log)}")


def _readiness(url: str) -> Readiness | None:
    """None while the server does not answer."""
    try:
        # Proxies named in the environment are not meant for this machine.
        response = httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return None
    return Readiness.model_validate_json(response.content)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with signals_held():
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    """Ours, settings included, but for the keys: the demo is its server's only client. Found from any folder."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith("RSTAR_API_KEYS")}
    return {**ours, "PYTHONPATH": path}


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])
