"""Free server: the real application under uvicorn, as `python -m server` runs it, on parts that answer at once.

    python -m benchmarks.load.free_server     settings from arguments and RSTAR_* variables, as for the real server

Its CPU time is that of our own Python, HTTP included. It stores nothing of a search, so that growing memory shows a
leak.
"""

import socket
import sys
from collections.abc import Sequence

import uvicorn

from benchmarks.fill.free_parts import free_parts
from search import Path
from server.app import create_app
from server.observability.logs import configure_logging
from server.parts.fakes import fake_parts, opening
from server.settings.sources import load_settings
from server.solving.solver import Solver

_SCORE = 0.1


class _Indifferent:
    """A scorer that stores nothing, since the scorer of the fakes stores all calls."""

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        return [_SCORE] * len(paths)


def main() -> None:
    """Serve until a signal. Prints the address, as the real server does."""
    settings = load_settings(sys.argv[1:]).settings
    configure_logging(level=settings.log_level, style=settings.log_format)
    listener = socket.create_server((settings.host, settings.port), backlog=2048)
    # As in server.__main__: asyncio does it only for sockets that name their protocol, and these do not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = listener.getsockname()
    solver = Solver(
        opening(fake_parts(policy=free_parts().policy, scorer=_Indifferent())),
        settings,
        on_ready=lambda: print(f"Serving on http://{host}:{port};", flush=True),
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
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
