"""Server Python: the CPU time of our code per node, from HTTP request to response, on parts that cost nothing."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from benchmarks.fill.free_parts import PROBLEM, ask_again, free_parts
from search import SearchResult, search
from server.app import create_app
from server.http.requests import search_request
from server.http.schemas import SolveRequest
from server.parts.fakes import fake_parts, opening
from server.parts.serving import OpenParts
from server.settings.settings import Settings
from server.solving.searches import SearchRequest
from server.solving.solver import Solver


async def seconds_per_node(*, requests: int) -> float:
    """Core-seconds per node. The time of the fakes is measured by repeating their calls, and is subtracted."""
    settings = Settings(stop_when_decided=False)
    nodes = 0
    fakes_s = 0.0
    parts = free_parts()
    opened = opening(fake_parts(policy=parts.policy, scorer=parts.scorer))
    async with _served(opened, settings) as client:
        (await client.post("/solve", json={"problem": PROBLEM})).raise_for_status()
        gc.collect()
        began_s = time.process_time()
        for seed in range(requests):
            (await client.post("/solve", json={"problem": PROBLEM, "seed": seed, "cache": "bypass"})).raise_for_status()
        served_s = time.process_time() - began_s
    for seed in range(requests):
        request = search_request(SolveRequest(problem=PROBLEM, seed=seed), settings, endpoint="/solve")
        result = await _same_search(request)
        nodes += len(result.tree.nodes)
        gc.collect()
        began_s = time.process_time()
        await ask_again(result, candidates=request.config.candidates, seed=request.seed)
        fakes_s += time.process_time() - began_s
    return (served_s - fakes_s) / nodes


@asynccontextmanager
async def _served(open_parts: OpenParts, settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that calls the application without a network."""
    ready = asyncio.Event()
    solver = Solver(open_parts, settings, on_ready=ready.set)
    transport = httpx.ASGITransport(create_app(solver, settings))
    async with solver.running(), httpx.AsyncClient(transport=transport, base_url="http://fake", timeout=None) as client:
        await ready.wait()
        yield client


async def _same_search(request: SearchRequest) -> SearchResult:
    """The same search as the server's: the fakes are deterministic and answer at once, so it makes the same tree."""
    return await search(
        request.problem,
        parts=free_parts(),
        config=request.config,
        budget=request.budget,
        seed=request.seed,
        now=time.monotonic,
    )
