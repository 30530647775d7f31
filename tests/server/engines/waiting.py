"""Waiting for another thread or process without an event: the condition is polled."""

import asyncio
from collections.abc import Callable

BOUND_S = 300.0
"""For what takes seconds at most on an idle machine: a test that waits for nothing fails, and does not hang."""


async def until(condition: Callable[[], bool], *, poll_s: float = 0.001) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(poll_s)
