"""Operations: named groups of calls to the parts, run at the same time; their results are applied one at a time.

An operation is one expansion, one comparison of answers or one trajectory of a baseline. Its name is the same in every
run. No code uses the result of an operation before its turn. So everything that changes a tree happens in one task, in
one order, and a replay only has to keep that order. A failure has its turn too, ahead of all results. Leaving the
context cancels the operations in flight and waits for them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

from search.tree import Tree

Result = TypeVar("Result")
Work = Callable[[], Coroutine[Any, Any, Result]]


class Tape(Protocol):
    """Gives the order of results in a replay; see `search.replay`."""

    def next_operation(self, in_flight: Collection[str], *, applied: int) -> str:
        """The operation to be applied as result number `applied` + 1. Raises `RecordEnds` or `ReplayMismatch`."""
        ...

    def check_end(self, *, applied: int) -> None:
        """Raise `RecordEnds` if the recorded search was stopped from outside after result number `applied`."""


class Operations:
    """The operations in flight for one search."""

    def __init__(
        self, group: asyncio.TaskGroup, tree: Tree, tape: Tape | None, on_applied: Callable[[str], object]
    ) -> None:
        self._group = group
        self._tree = tree
        self._tape = tape
        self._on_applied = on_applied
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
            self._on_applied(applied)
            apply()
            if name in (None, applied):
                return

    def cancel_all(self) -> None:
        """Cancel everything in flight."""
        for task in self._in_flight.values():
            task.cancel()

    async def _next(self, name: str | None) -> str:
        recorded = None
        if self._tape is not None:
            recorded = self._tape.next_operation(self._in_flight.keys(), applied=self._tree.applied)
        while (ready := self._ready(name, recorded)) is None:
            self._changed.clear()
            await self._changed.wait()
        return ready

    def _ready(self, name: str | None, recorded: str | None) -> str | None:
        wanted = recorded or self._failed or name
        if wanted is None:
            return next(iter(self._finished), None)
        return wanted if wanted in self._finished else None

    async def _run(self, name: str, work: Work[Result], then: Callable[[Result], None]) -> None:
        try:
            result = await work()
        except BaseException as error:
            # Also a cancellation that a part raised by itself: a wait for this operation must end.
            self._finished[name] = partial(_raise, error)
            self._failed = self._failed or name
            if not isinstance(error, Exception):
                raise
        else:
            self._finished[name] = partial(then, result)
        finally:
            self._changed.set()


@asynccontextmanager
async def operations(
    tree: Tree, *, tape: Tape | None = None, on_applied: Callable[[str], object] = lambda _: None
) -> AsyncGenerator[Operations]:
    """Operations for the search of `tree`; `on_applied` gets the name of each just before its result is applied.

    The first failure comes out as it was raised.
    """
    async with task_group() as group:
        running = Operations(group, tree, tape, on_applied)
        yield running
        running.cancel_all()


@asynccontextmanager
async def task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup` that raises the first exception of a child itself, not a group of exceptions.

    So callers of a search can catch the exception of a part by its type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def run_all(calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of `calls`, run at the same time, in order; the first failure cancels the others."""
    async with task_group() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


def _raise(error: BaseException) -> NoReturn:
    raise error
