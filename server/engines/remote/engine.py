"""The remote engine: what the engines share whose model another server runs."""

from abc import ABC, abstractmethod
from typing import Self

from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteLimits, RemoteTraffic
from server.engines.remote.server import RemoteServer
from server.engines.stats import EngineStats


class RemoteEngine(ABC):
    """`server.engines.protocols.Engine`, by one server."""

    def __init__(
        self, name: EngineName, address: RemoteAddress, *, context_tokens: int, limits: RemoteLimits | None
    ) -> None:
        """`context_tokens`: of the model; the server may serve fewer."""
        self._server = RemoteServer(name, address, context_tokens=context_tokens, limits=limits)

    @property
    def model_id(self) -> str:
        return self._server.model.model_id

    @property
    def context_tokens(self) -> int:
        """Before the engine is entered, what the folder says."""
        return self._server.context_tokens

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self._server.fault

    @property
    def stats(self) -> EngineStats:
        return self._server.counters.snapshot()

    @property
    def traffic(self) -> RemoteTraffic:
        """Attempts and retries."""
        return self._server.client.traffic

    async def __aenter__(self) -> Self:
        """Waits for the server. Raises `RemoteMismatch` where its model is another, and what the client raises."""
        await self._server.enter(self._check)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @abstractmethod
    async def _check(self) -> None:
        """That the server has the model it should have. Raises `RemoteMismatch`."""
