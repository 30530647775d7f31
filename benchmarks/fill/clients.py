"""Clients: a fixed number of requests in flight, each followed by the next at once, until enough are answered."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable


async def keep_in_flight(
    clients: int, solve: Callable[[int], Awaitable[object]], *, answers: int, then: Callable[[], None]
) -> None:
    """Solve problem 0, 1, 2 and so on, `clients` of them at any time; the first failure ends it.

    Exactly `clients` requests are in flight until the last of the `answers`. Then `then` is called before anything else
    happens, and the requests still in flight are cancelled. Waiting for every request would also measure the last ones,
    which run with few others beside them.
    """
    numbers = itertools.count()
    answered = 0
    tasks: list[asyncio.Task[None]] = []

    async def client() -> None:
        nonlocal answered
        for number in numbers:
            await solve(number)
            answered += 1
            if answered == answers:
                then()
                for task in tasks:
                    task.cancel()
            if answered >= answers:
                return

    async with asyncio.TaskGroup() as group:
        tasks += [group.create_task(client()) for _ in range(clients)]
