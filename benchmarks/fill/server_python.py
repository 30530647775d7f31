"""Server Python: the CPU time of everything of ours for each node, from HTTP request to response, on parts for free."""

import gc
import time

from benchmarks.fill.free_parts import PROBLEM, ask_again, free_parts
from search import Budget, SearchResult, search
from server.http.schemas import SolveRequest
from server.parts.fakes import fake_parts, opening, serve
from server.settings.settings import Settings
from server.solving.orders import Order, order_for


async def seconds_per_node(*, requests: int) -> float:
    """Core-seconds; what the fakes take themselves is measured by asking them again, and taken off."""
    settings = Settings(stop_when_decided=False)
    nodes = 0
    fakes_s = 0.0
    parts = free_parts()
    opened = opening(fake_parts(policy=parts.policy, scorer=parts.scorer))
    async with serve(opened, settings=settings) as served:
        (await served.client.post("/solve", json={"problem": PROBLEM})).raise_for_status()
        gc.collect()
        began_s = time.process_time()
        for seed in range(requests):
            (await served.client.post("/solve", json={"problem": PROBLEM, "seed": seed})).raise_for_status()
        served_s = time.process_time() - began_s
    for seed in range(requests):
        order = order_for(SolveRequest(problem=PROBLEM, seed=seed), settings)
        result = await _same_search(order)
        nodes += len(result.tree.nodes)
        gc.collect()
        began_s = time.process_time()
        await ask_again(result, candidates=order.config.candidates, seed=order.seed)
        fakes_s += time.process_time() - began_s
    return (served_s - fakes_s) / nodes


async def _same_search(order: Order) -> SearchResult:
    """The fakes answer at once and always alike, so the server's search made this very tree."""
    return await search(
        order.problem,
        parts=free_parts(),
        config=order.config,
        budget=Budget(trajectories=order.trajectories),
        seed=order.seed,
        now=time.monotonic,
    )
