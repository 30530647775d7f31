"""Stop: how a caller ends a search early and still gets its best answer so far. Cancelling a search gets nothing."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager


class Stop:
    """Belongs to one search; may be asked before it begins, and any number of times."""

    def __init__(self) -> None:
        self._deadline: asyncio.Timeout | None = None
        self._asked = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether the search is to end."""
        return self._asked.is_set()

    def ask(self) -> None:
        """End the search: calls in flight are cancelled, and the result has the stop reason `cancelled`."""
        self._asked.set()
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0)

    async def asked(self) -> None:
        """Until somebody asks."""
        await self._asked.wait()

    @contextmanager
    def ending(self, deadline: asyncio.Timeout) -> Generator[None, None, None]:
        """Asking runs out `deadline`, which has been entered, as long as this is open."""
        self._deadline = deadline
        if self.is_asked:
            deadline.reschedule(0)
        try:
            yield
        finally:
            self._deadline = None
