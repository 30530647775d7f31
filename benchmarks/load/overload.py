"""Overload: three times as many clients at once as slots and queue hold, and how the server responds."""

from collections import Counter
from collections.abc import Callable, Sequence

import httpx

from benchmarks.load.levels import percentile
from benchmarks.load.requests import Body, Ending, Seen, keep_asking
from benchmarks.load.server_process import ServerProcess

FACTOR = 3
_SETTLE_S = 2.0


async def overload(
    server: ServerProcess,
    reader: httpx.AsyncClient,
    bodies_for: Callable[[int], Sequence[Body]],
    *,
    holds: int,
    rounds: int,
) -> dict[str, float]:
    """All clients send at the same time. When every request has ended, they do so again."""
    clients = FACTOR * holds
    async with server.memory(settle_s=_SETTLE_S) as memory:
        seen: list[Seen] = []
        for _ in range(rounds):
            seen += await keep_asking(server.url, bodies_for(clients), clients=clients)
    afterwards = await keep_asking(server.url, bodies_for(1), clients=1)
    left = await server.read(reader)
    endings = Counter(one.ending for one in seen)
    refused = [one for one in seen if one.ending is Ending.REFUSED]
    answered = [one.whole_s for one in seen if one.ending is Ending.ANSWERED]
    return {
        "clients": clients,
        "requests": len(seen),
        **{str(ending): endings[ending] for ending in Ending},
        **{f"status_{status}": sum(one.status == status for one in seen) for status in (200, 429, 503)},
        "neither_answered_nor_refused": len(seen) - endings[Ending.ANSWERED] - endings[Ending.REFUSED],
        "lost_events": sum(one.lost_events for one in seen),
        "refusal_p50_s": percentile([one.whole_s for one in refused], 50),
        "refusal_p95_s": percentile([one.whole_s for one in refused], 95),
        "refusal_worst_s": max((one.whole_s for one in refused), default=0.0),
        "retry_after_least_s": min((one.retry_after_s or 0 for one in refused), default=0),
        "retry_after_most_s": max((one.retry_after_s or 0 for one in refused), default=0),
        "answer_p95_s": percentile(answered, 95),
        "memory_before_mb": memory.before_mb,
        "memory_peak_mb": memory.peak_mb,
        "memory_after_mb": memory.after_mb,
        "memory_peak_ratio": memory.peak_mb / memory.before_mb,
        "memory_after_ratio": memory.after_mb / memory.before_mb,
        "answered_afterwards": sum(one.ending is Ending.ANSWERED for one in afterwards),
        "left_in_flight": left["rstar_requests_in_flight"] + left["rstar_queue_depth"],
    }
