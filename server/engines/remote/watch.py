"""The watch over one remote server: keeps the sentence that readiness shows while the server cannot serve.

Every call through the engine tells it how it went; in between it asks the server itself, so that an idle engine notices
the server's death, and its return.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

from server.engines.remote.client import RemoteClient
from server.engines.remote.errors import RemoteUnavailable

_PROBE_S = 5.0
"""Between two probes: with the two failures in a row that count, a dead server is noticed within 20 seconds."""
_FAILURES_THAT_COUNT = 2
"""A busy server may miss one probe."""


class RemoteWatch:
    """Probes while entered."""

    def __init__(self, client: RemoteClient, *, probe_s: float = _PROBE_S) -> None:
        self.fault: str | None = None
        """Why the server cannot serve; None while all is well."""
        self._client = client
        self._probe_s = probe_s
        self._failures = 0
        self._tasks = asyncio.TaskGroup()
        self._watching: asyncio.Task[None] | None = None

    @contextmanager
    def calling(self) -> Generator[None]:
        """Around a call to the server: one that succeeds clears the fault, one that cannot be made sets it."""
        try:
            yield
        except RemoteUnavailable as error:
            self.fault = str(error)
            raise
        self.fault = None
        self._failures = 0

    async def probe(self) -> None:
        """Ask the server how it is."""
        try:
            await self._client.probe()
        except RemoteUnavailable as error:
            self._failures += 1
            if self._failures >= _FAILURES_THAT_COUNT:
                self.fault = str(error)
        else:
            self.fault = None
            self._failures = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._watching = self._tasks.create_task(self._probe_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _probe_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._probe_s)
            await self.probe()
