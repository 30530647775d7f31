"""Sequences that go on until they are stopped, for the `endless_checkpoint`."""

from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from tests.server.engines.waiting import until

ENDLESS = Sampling(top_p=1e-6, max_step_tokens=900)
"""With the endless checkpoint, the likeliest tokens: a sequence ends at the limit or at the end of the context."""


async def until_generated(policy: PolicyEngine, tokens: int) -> None:
    await until(lambda: policy.stats.tokens_generated >= tokens, poll_s=0)
