"""The demo's server: a process on a free port, stopped when the demo ends, also when a signal ends the demo."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
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


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(Exception):
    """The demo cannot go on; the message is the reason for the user."""


class Interrupted(BaseException):
    """A signal ends the demo."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_on_signals() -> None:
    """From now on the first signal raises `Interrupted` in the main thread, so that every `finally` runs."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell ignores some for background jobs
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for other in _SIGNALS:
        signal.signal(other, lambda _number, _frame: None)  # a second signal must not break off the cleaning up
    raise Interrupted(number)


@contextmanager
def _signals_held() -> Generator[None]:
    """Signals that arrive inside take effect at the end."""
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in held[:1]:
        signal.raise_signal(number)


@contextmanager
def started_server(on_progress: Callable[[Mapping[str, str]], None]) -> Generator[str]:
    """The URL of a server that is ready. `on_progress` gets the state of each part while the server is not ready."""
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        port = _free_port()
        # A signal between the start and the callback would leave the server running.
        with _signals_held():
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
    with _signals_held():
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
    """Ours without API keys: the demo is its server's only client. PYTHONPATH finds the package from any folder."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith("RSTAR_API_KEYS")}
    return {**ours, "PYTHONPATH": path}


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])
