"""`python -m server`: serves until a signal, lets the running searches end, stops every process and exits with 0.

While searches end, the server still listens and reports that it is not ready. A second signal ends them at once. The
exit code is 2 for invalid settings, and 1 where the server or one of its parts cannot start; one line on stderr gives
the reason. It is also 1 if something prevents the process from ending.
"""

import asyncio
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import NoReturn

import uvicorn
from opentelemetry.trace import Tracer

from server.app import create_app
from server.bundle.folders import ModelFolders, ModelsMissing, bundled_models, named_models
from server.engines.torch.openmp import wait_passively
from server.observability.logs import configure_logging
from server.observability.tracing import NO_TRACER, TelemetryMissing, exporting_tracer
from server.observability.version import running_version
from server.parts.opening import open_local_parts
from server.settings.settings import Settings
from server.settings.sources import SettingsRefused, load_settings, settings_as_toml
from server.solving.solver import Solver

logger = logging.getLogger("server")  # the module's own name is __main__ here

GRACEFUL_SHUTDOWN_S = 5
"""Time for clients to take their last response, after all searches have ended."""
LAST_RESORT_S = 60.0
"""Time to end after the searches' own time. If a part then still holds the process up, the process prints the stack of
every thread and exits with 1, which leaves no more behind than a kill does."""

_EXAMPLE = "Determine the value of h that satisfies: 132 - 44*h = -2420"


def main(arguments: Sequence[str] | None = None) -> None:
    """Never returns."""
    wait_passively()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        loaded = load_settings(sys.argv[1:] if arguments is None else arguments)
    except SettingsRefused as error:
        _fail(str(error), exit_code=2)
    if loaded.print_config:
        print(settings_as_toml(loaded), end="")
        sys.exit(0)
    settings = loaded.settings
    with ExitStack() as stack:
        try:
            folders = _model_folders(settings)
            tracer = _tracer(settings, stack)
            listener = stack.enter_context(listening_socket(settings))
        except (ModelsMissing, TelemetryMissing) as error:
            _fail(str(error))
        except OSError as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            _fail(f"cannot listen on {settings.host}:{settings.port}: {reason}; see --host and --port")
        configure_logging(level=settings.log_level, style=settings.log_format)
        sys.exit(_serve(settings, folders, listener, tracer))


def _serve(settings: Settings, folders: ModelFolders, listener: socket.socket, tracer: Tracer) -> int:
    """The exit code, once a signal or a failure has ended it."""
    url = _url(settings.host, listener)
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        server.should_exit = True

    solver = Solver(
        partial(open_local_parts, folders, settings),
        settings,
        on_ready=lambda: _announce(url),
        on_failure=fail,
    )
    config = uvicorn.Config(
        create_app(solver, settings, tracer=tracer),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="debug" if settings.log_level == "debug" else "warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )
    server = _Server(config, solver, drain_s=settings.drain_s)
    server.run(sockets=[listener])
    faulthandler.cancel_dump_traceback_later()
    for reason in failures:
        print(f"rstar: {reason}", file=sys.stderr)
    return 1 if failures else 0


class _Server(uvicorn.Server):
    """Drains before it shuts down: uvicorn alone would first stop listening."""

    def __init__(self, config: uvicorn.Config, solver: Solver, *, drain_s: float) -> None:
        super().__init__(config)
        self._solver = solver
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signals = 0
        self._second_signal = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the running searches end, still listening; then stop listening and close everything."""
        if self._signals:
            logger.info("no new searches; running ones have %g s to end; another signal ends them now", self._drain_s)
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(self._solver.drain(self._drain_s))
            interrupted = group.create_task(self._second_signal.wait())
            ticking = group.create_task(self._tick())
            await asyncio.wait({draining, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, interrupted, ticking):
                task.cancel()
        self._solver.stop()
        await super().shutdown(sockets)

    async def _tick(self) -> None:
        """Keep the Date header right, which uvicorn renews in its main loop only."""
        while True:
            await self.on_tick(0)
            await asyncio.sleep(1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. uvicorn does not record it: it would raise the signal again at the end."""
        self._signals += 1
        self.should_exit = True
        left_s = self._drain_s if self._signals == 1 else 0.0
        faulthandler.dump_traceback_later(left_s + LAST_RESORT_S, exit=True)
        self._solver.is_draining = True
        if self._loop is not None and self._signals > 1:
            self._loop.call_soon_threadsafe(self._second_signal.set)


def _model_folders(settings: Settings) -> ModelFolders:
    if settings.policy_model is None or settings.ppm_model is None:
        return bundled_models()
    return named_models(settings.policy_model, settings.ppm_model)


def _tracer(settings: Settings, stack: ExitStack) -> Tracer:
    if settings.otlp_endpoint is None:
        return NO_TRACER
    return stack.enter_context(exporting_tracer(settings.otlp_endpoint, version=running_version()))


def listening_socket(settings: Settings) -> socket.socket:
    """Bound to the address that the settings name. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    # asyncio does it for connections whose listener names its protocol, and this one does not: without it Linux holds
    # the second write of each response back until the client has acknowledged the first, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(url: str) -> None:
    print(f"Serving on {url}; stop with Ctrl-C. Try:")
    body = json.dumps({"problem": _EXAMPLE})
    print(f"  curl {url}/solve -H 'content-type: application/json' -d '{body}'", flush=True)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Exit on a signal before uvicorn handles signals."""
    raise SystemExit(0)


def _fail(reason: str, *, exit_code: int = 1) -> NoReturn:
    print(f"rstar: {reason}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
