"""Sequences that go on until somebody stops them, for the `endless_checkpoint`."""

import asyncio
from collections.abc import Callable

from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling

ENDLESS = Sampling(top_p=1e-6, max_step_tokens=900)
"""With the endless checkpoint, the likeliest tokens: a sequence ends at the limit or at the end of the context."""


async def until(condition: Callable[[], bool]) -> None:
    """Yield to the other tasks until the compute thread has got somewhere: it tells nobody in between."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)


async def until_generated(policy: PolicyEngine, tokens: int) -> None:
    await until(lambda: policy.stats.tokens_generated >= tokens)
