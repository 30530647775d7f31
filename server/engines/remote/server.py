"""One remote server as the engines hold it: found at the start, watched from then on, closed at the end."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager

from server.engines.errors import EngineClosed
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteClient, RemoteLimits
from server.engines.remote.errors import RemoteUnavailable
from server.engines.remote.model import RemoteModel, find_model
from server.engines.remote.watch import RemoteWatch
from server.engines.stats import EngineCounters

logger = logging.getLogger(__name__)


class RemoteServer:
    """Closing it drops the connections, which stops what the server still generates, and is for good."""

    def __init__(
        self, name: EngineName, address: RemoteAddress, *, context_tokens: int, limits: RemoteLimits | None = None
    ) -> None:
        """`context_tokens`: of the model, as its folder says."""
        self.client = RemoteClient(address, limits=limits)
        self.counters = EngineCounters()
        self._name = name
        self._model_tokens = context_tokens
        self._wanted = address.model
        self._watch = RemoteWatch(self.client)
        self._model: RemoteModel | None = None
        self._stack = AsyncExitStack()
        self._is_closed = False

    @property
    def model(self) -> RemoteModel:
        """What the server serves; known once entered."""
        if self._model is None:
            raise RuntimeError(f"the {self._name} engine was not entered; use it as an async context manager")
        return self._model

    @property
    def context_tokens(self) -> int:
        """The longest sequence that both the model and the server take."""
        return self._model_tokens if self._model is None else min(self._model_tokens, self._model.context_tokens)

    @property
    def fault(self) -> str | None:
        return self._watch.fault

    @contextmanager
    def calling(self, units: int) -> Generator[None]:
        """Around one call of an engine, for `units` sequences or paths: counts it, and notes how the server took it."""
        if self._is_closed:
            raise EngineClosed("the engine was closed")
        self.counters.requests += 1
        self.counters.running += units
        try:
            with self._watch.calling():
                yield
        except asyncio.CancelledError:
            self.counters.aborted += 1
            raise
        except (RemoteUnavailable, RuntimeError) as error:
            # A client that was closed under the call ends it as a broken connection, or refuses to try again.
            if self._is_closed:
                raise EngineClosed("the engine was closed") from error
            raise
        finally:
            self.counters.running -= units
        self.counters.observe_batch(units)

    async def enter(self, check: Callable[[], Awaitable[None]]) -> None:
        """Wait until the server can serve, find its model, and `check` it."""
        async with AsyncExitStack() as starting:
            await starting.enter_async_context(self.client)
            await self._wait_until_up()
            self._model = await find_model(self.client, self._wanted)
            await check()
            await starting.enter_async_context(self._watch)
            self._stack = starting.pop_all()

    async def close(self) -> None:
        self._is_closed = True
        await self._stack.aclose()

    async def _wait_until_up(self) -> None:
        """Raises `RemoteUnavailable` when the time for a start is over."""
        started_s = asyncio.get_running_loop().time()
        for attempt in itertools.count():
            try:
                await self.client.probe()
            except RemoteUnavailable as error:
                if attempt == 0:
                    logger.warning("waiting for the %s server: %s", self._name, error)
                if asyncio.get_running_loop().time() - started_s >= self.client.limits.start_s:
                    raise RemoteUnavailable(
                        f"the {self._name} server is not up after {self.client.limits.start_s:g} s: {error}; "
                        f"start it, or correct RSTAR_{self._name.upper()}_URL"
                    ) from error
            else:
                return
            await asyncio.sleep(self.client.limits.start_poll_s)
