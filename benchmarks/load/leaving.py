"""Leaving: clients close their connections during their requests. Measures the work that goes on without them."""

import asyncio
import time
from collections.abc import Sequence

import httpx

from benchmarks.load.requests import Body, open_clients
from benchmarks.load.server_process import Reading, ServerProcess

_STAY_S = 1.0
_LOOK_S = 1.0
_THEN_S = 5.0
_POLL_S = 0.05

RUNNING = ("rstar_engine_running", "rstar_engine_waiting", "rstar_requests_in_flight", "rstar_queue_depth")
_TOKENS = "rstar_engine_generated_tokens_total"


async def leave_all(server: ServerProcess, reader: httpx.AsyncClient, bodies: Sequence[Body]) -> dict[str, float]:
    """One client per body: every second one streams, the others wait for the response. All leave after a second."""
    before = await server.read(reader)
    async with open_clients(len(bodies)) as clients, asyncio.TaskGroup() as group:
        staying = [
            group.create_task(_stay(client, server.url, {**body, "stream": number % 2 == 0}))
            for number, (client, body) in enumerate(zip(clients, bodies, strict=True))
        ]
        await asyncio.sleep(_STAY_S)
        at_work = await server.read(reader)
        ended_before = sum(task.done() for task in staying)
        for task in staying:
            task.cancel()
    left_s = time.monotonic()
    left = await server.read(reader)
    idle_s = await _until_idle(server, reader, left_s)
    await asyncio.sleep(max(0.0, left_s + _LOOK_S - time.monotonic()))
    looked = await server.read(reader)
    await asyncio.sleep(max(0.0, left_s + _LOOK_S + _THEN_S - time.monotonic()))
    then = await server.read(reader)
    return {
        "clients": len(bodies),
        "ended_before": ended_before,
        **{f"at_work/{name}": at_work[name] for name in RUNNING},
        **{f"1_s_later/{name}": looked[name] for name in RUNNING},
        "1_s_later/anything": sum(looked[name] for name in RUNNING),
        "idle_after_s": idle_s,
        "tokens/before_leaving": left[_TOKENS] - before[_TOKENS],
        "tokens/within_1_s": looked[_TOKENS] - left[_TOKENS],
        "tokens/next_5_s": then[_TOKENS] - looked[_TOKENS],
        "tokens/counted_as_wasted": then["rstar_wasted_tokens_total"] - before["rstar_wasted_tokens_total"],
    }


async def _stay(client: httpx.AsyncClient, url: str, body: Body) -> None:
    """Read the stream. Cancelling this closes the connection."""
    async with client.stream("POST", f"{url}/solve", json=body) as response:
        async for _ in response.aiter_raw():
            pass


async def _until_idle(server: ServerProcess, reader: httpx.AsyncClient, left_s: float) -> float:
    """Seconds from `left_s` until the server was idle, or until the wait was given up."""
    while time.monotonic() < left_s + _LOOK_S and _is_busy(await server.read(reader)):  # noqa: ASYNC110  # no event
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - left_s


def _is_busy(reading: Reading) -> bool:
    return any(reading[name] for name in RUNNING)
