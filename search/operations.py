"""Operations: groups of calls to the parts, run at the same time; their results are handed out one at a time.

Whatever an operation finds out comes back as its result, and is used by nobody before its turn. So everything that
changes a tree happens in one task, in one order, and a replay only has to keep to that order. A failure has its turn
too, ahead of all results. Leaving the context cancels what is in flight and waits for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar

from search.concurrency import task_group
from search.tape import Tape
from search.tree import Tree

Result = TypeVar("Result")
Work = Callable[[], Coroutine[Any, Any, Result]]


class Operations:
    """What is in flight for one search."""

    def __init__(self, group: asyncio.TaskGroup, tree: Tree, tape: Tape | None) -> None:
        self._group = group
        self._tree = tree
        self._tape = tape
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._finished: dict[str, Callable[[], None]] = {}
        self._failed: str | None = None
        self._changed = asyncio.Event()

    def start(self, name: str, work: Work[Result], *, then: Callable[[Result], None]) -> None:
        """Run `work`; when its turn has come, `then` gets its result, and must not wait."""
        assert name not in self._in_flight
        self._in_flight[name] = self._group.create_task(self._run(name, work, then))

    async def apply_next(self, name: str | None = None) -> None:
        """Wait for the named operation, or for any, and apply its result. Raises what an operation raised."""
        assert self._in_flight if name is None else name in self._in_flight
        while True:
            applied = await self._next(name)
            del self._in_flight[applied]
            apply = self._finished.pop(applied)
            if self._tape is not None:
                self._tape.applied(applied)
            apply()
            if name in (None, applied):
                return

    def cancel_all(self) -> None:
        """Nothing in flight is wanted any more."""
        for task in self._in_flight.values():
            task.cancel()

    async def _next(self, name: str | None) -> str:
        played = None
        if self._tape is not None:
            played = self._tape.next_operation(self._in_flight.keys(), applied=self._tree.applied)
        while (ready := self._ready(name, played)) is None:
            self._changed.clear()
            await self._changed.wait()
        return ready

    def _ready(self, name: str | None, played: str | None) -> str | None:
        if played is not None:
            return played if played in self._finished else None
        if self._failed is not None:
            return self._failed
        if name is not None:
            return name if name in self._finished else None
        return next(iter(self._finished), None)

    async def _run(self, name: str, work: Work[Result], then: Callable[[Result], None]) -> None:
        try:
            result = await work()
        except BaseException as error:
            # Also a cancellation that a part brought on itself: waiting for this operation must not take for ever.
            self._finished[name] = partial(_raise, error)
            self._failed = self._failed or name
            if not isinstance(error, Exception):
                raise
        else:
            self._finished[name] = partial(then, result)
        finally:
            self._changed.set()


@asynccontextmanager
async def operations(tree: Tree, tape: Tape | None) -> AsyncGenerator[Operations, None]:
    """Operations for the search of `tree`. The first failure comes out as it was raised."""
    async with task_group() as group:
        running = Operations(group, tree, tape)
        yield running
        running.cancel_all()


def _raise(error: BaseException) -> NoReturn:
    raise error
