"""`python -m server`: serves until a signal, then stops every search and process and exits with 0.

Exits with 2 for settings that make no sense, and with 1 where it cannot start or a part cannot be opened; either way
with one line on stderr that says why.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import NoReturn

import uvicorn

from server.app import create_app
from server.bundle.folders import ModelFolders, ModelsMissing, bundled_models, named_models
from server.engines.openmp import wait_passively
from server.local_parts import open_local_parts
from server.settings import Settings, SettingsRefused, load_settings
from server.solver import Solver

GRACEFUL_SHUTDOWN_S = 5
"""For clients to take their last response: all searches are cancelled by then."""

_EXAMPLE = "Determine the value of h that satisfies: 132 - 44*h = -2420"


def main(arguments: Sequence[str] | None = None) -> None:
    """Never returns."""
    wait_passively()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        settings = load_settings(sys.argv[1:] if arguments is None else arguments)
    except SettingsRefused as error:
        _fail(str(error), exit_code=2)
    try:
        folders = _model_folders(settings)
        listener = _listen(settings)
    except ModelsMissing as error:
        _fail(str(error))
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        _fail(f"cannot listen on {settings.host}:{settings.port}: {reason}; see --host and --port")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(_serve(settings, folders, listener))


def _serve(settings: Settings, folders: ModelFolders, listener: socket.socket) -> int:
    """The exit code, once a signal or a failure has ended it."""
    url = _url(settings.host, listener)
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        server.should_exit = True

    solver = Solver(
        partial(open_local_parts, folders, settings),
        concurrent_searches=settings.concurrent_searches,
        on_ready=lambda: _announce(url),
        on_failure=fail,
    )
    config = uvicorn.Config(
        create_app(solver, settings),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = _Server(config, solver)
    with listener:
        server.run(sockets=[listener])
    for reason in failures:
        print(f"rstar: {reason}", file=sys.stderr)
    return 1 if failures else 0


class _Server(uvicorn.Server):
    """Stops the searches at once when a signal comes: uvicorn by itself would wait for them."""

    def __init__(self, config: uvicorn.Config, solver: Solver) -> None:
        super().__init__(config)
        self._solver = solver
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._solver.stop)


def _model_folders(settings: Settings) -> ModelFolders:
    if settings.policy_model is None or settings.ppm_model is None:
        return bundled_models()
    return named_models(settings.policy_model, settings.ppm_model)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(url: str) -> None:
    print(f"Serving on {url}; stop with Ctrl-C. Try:")
    body = json.dumps({"problem": _EXAMPLE})
    print(f"  curl {url}/solve -H 'content-type: application/json' -d '{body}'", flush=True)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """A signal asks for the normal end. uvicorn takes the signals while it runs, and raises them again when done."""
    raise SystemExit(0)


def _fail(reason: str, *, exit_code: int = 1) -> NoReturn:
    print(f"rstar: {reason}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
