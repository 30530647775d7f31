"""The real HTTP server on a port of its own, for tests of connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


@dataclass(slots=True, kw_only=True)
class Listener:
    """Where it listens."""

    address: tuple[str, int] = ("", 0)
    connections: list[H11Protocol] = field(default_factory=list[H11Protocol])
    """All that were ever made."""


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncGenerator[Listener]:
    """Serve an application whose lifespan is somebody else's."""
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    listener = Listener()

    def connect() -> H11Protocol:
        listener.connections.append(H11Protocol(config=config, server_state=state, app_state={}))
        return listener.connections[-1]

    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
    async with server:
        listener.address = server.sockets[0].getsockname()
        yield listener
