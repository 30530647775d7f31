"""Task groups whose failures come out as they went in: the first exception of a child, not a group of exceptions.

Callers of a search can thus catch what a part raises by its type. All children are over when the group is left.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Returned = TypeVar("Returned")


@asynccontextmanager
async def task_group() -> AsyncGenerator[asyncio.TaskGroup, None]:
    """An `asyncio.TaskGroup` that raises the first failure itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def run_all(calls: "Iterable[Coroutine[Any, Any, Returned]]") -> list[Returned]:
    """The results of `calls`, run at the same time, in order; the first failure cancels the others."""
    async with task_group() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]
