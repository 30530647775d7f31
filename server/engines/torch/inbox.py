"""The inbox: how requests cross from coroutines to the compute thread, and how the answers come back.

The one place where two threads meet. An answer is delivered in the event loop that asked; a coroutine that leaves early
marks its request abandoned, and the compute thread drops the work before its next step.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from server.engines.errors import EngineError

ResultT = TypeVar("ResultT")
RequestT = TypeVar("RequestT")


class Reply(Generic[ResultT]):
    """An answer that the compute thread owes to a coroutine."""

    def __init__(self) -> None:
        """Made inside the event loop that waits."""
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[ResultT] = self._loop.create_future()
        self._is_abandoned = False

    @property
    def is_abandoned(self) -> bool:
        """Nobody waits any more."""
        return self._is_abandoned

    async def wait(self) -> ResultT:
        """The answer. Leaving early, by cancellation or a timeout, abandons the work."""
        try:
            return await self._future
        finally:
            self._is_abandoned = True

    def resolve(self, result: ResultT) -> None:
        self._in_loop(lambda: self._future.set_result(result))

    def refuse(self, error: EngineError) -> None:
        self._in_loop(lambda: self._future.set_exception(error))

    def _in_loop(self, settle: Callable[[], None]) -> None:
        def settle_once() -> None:
            if not self._future.done():
                settle()

        # A loop that closed meanwhile has nobody waiting in it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle_once)


class Inbox(Generic[RequestT]):
    """Requests on their way to the compute thread, first come first served, until the engine refuses."""

    def __init__(self) -> None:
        # Guards one invariant: a request is either in the queue or was refused, also when both happen at once.
        self._lock = threading.Lock()
        self._queue: deque[RequestT] = deque()
        self._refusal: EngineError | None = None

    @property
    def refusal(self) -> EngineError | None:
        """Why nothing is accepted; None while the engine is well."""
        return self._refusal

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, request: RequestT) -> None:
        """Raises the refusal where there is one."""
        with self._lock:
            if self._refusal is not None:
                raise type(self._refusal)(*self._refusal.args) from self._refusal
            self._queue.append(request)

    def take(self) -> RequestT | None:
        """The next request, None where there is none."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    def refuse(self, error: EngineError) -> list[RequestT]:
        """Accept nothing from now on; what was waiting is handed back."""
        with self._lock:
            self._refusal = error
            waiting = list(self._queue)
            self._queue.clear()
            return waiting
