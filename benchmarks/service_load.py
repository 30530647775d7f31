"""Service load: the server as its clients see it: alone, with many clients, with too many, and when they disconnect.

    python benchmarks/service_load.py [--json PATH] [--requests N] [--quick]

Servers are processes of their own on this machine, under uvicorn. Clients stream over HTTP, and share the cores with
them. The *free* server comes first: its parts answer at once, so that the rest is our own Python. The *bundled* models
come second.

*Levels*: N requests by 1, 4, 16 and 64 clients, each of which sends its next request as soon as the last one has ended.
Slots and queue are the server's defaults. The time in the queue counts.

*Overload*: three times as many clients at once as slots and queue hold. Each must get an answer, or a refusal that says
when to retry. The server's memory must not grow.

*Leaving*: 100 clients close their connections after a second. Once there is a slot for each; once there are the default
slots, and the other clients are in the queue. The figures are the searches that still run a second later, and the
tokens generated in the five seconds after that.

*Python*: CPU time of the free server per node, HTTP and stream included. The share divides it by the CPU time of a node
of the bundled models, for requests as small as theirs. `--quick` leaves the models out.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fill.free_parts import PROBLEM
from benchmarks.load.leaving import leave_all
from benchmarks.load.levels import CLIENTS, Clock, run_level
from benchmarks.load.overload import overload
from benchmarks.load.requests import Body, open_clients
from benchmarks.load.server_process import BUNDLED, FREE, ServerProcess, started
from benchmarks.load.targets import targets
from benchmarks.steps.meter import CpuMeter
from benchmarks.steps.report import show, write
from server.settings.settings import Settings
from training.problems.families import FAMILIES, family_problems, missing_generator

REQUESTS = 200
QUICK_REQUESTS = 32
TRAJECTORIES, CANDIDATES = 2, 4
"""Budget for the bundled models: small, so that 200 requests at each level take minutes on two cores."""
SHORT_PROBLEM = "11+12"
"""Nearly as few nodes per request as the bundled models make, so that the fixed cost of a request counts as much."""
SMALL = {"trajectories": TRAJECTORIES, "search": {"candidates": CANDIDATES}}
LEAVING_CLIENTS = 100
LEAVING_TRAJECTORIES = 256
HOT = 1.6
"""At temperature 1 the bundled models are so sure of these problems that many searches would end by themselves."""
ROUNDS = {FREE: 3, BUNDLED: 1}
"""Rounds of overload."""
WARM_UP = 8

DEFAULTS = Settings()
HOLDS = DEFAULTS.concurrent_searches + DEFAULTS.queued_searches

BodiesFor = Callable[[int], Sequence[Body]]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="the server under load")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--requests", type=int, help=f"at each level; {REQUESTS}, or {QUICK_REQUESTS} with --quick")
    parser.add_argument("--quick", action="store_true", help="skip everything that needs models")
    arguments = parser.parse_args()
    if not arguments.quick and (reason := missing_generator()):
        sys.exit(reason)
    requests = arguments.requests or (QUICK_REQUESTS if arguments.quick else REQUESTS)
    figures = {"load_1_minute/start": os.getloadavg()[0], **_free(requests)}
    figures["python/us_per_node"] = figures["free/16_clients/server_cpu_us_per_node"]
    figures["python/us_per_node_of_small_requests"] = figures["free/16_clients_small/server_cpu_us_per_node"]
    if not arguments.quick:
        figures |= _bundled(requests)
        figures |= _leaving("leaving_all_running", {"concurrent_searches": LEAVING_CLIENTS})
        figures |= _leaving("leaving_most_waiting", {"queued_searches": LEAVING_CLIENTS})
        python_us = figures["python/us_per_node_of_small_requests"]
        figures["python/share"] = python_us / figures["bundled/16_clients/cpu_us_per_node"]
    figures["load_1_minute/end"] = os.getloadavg()[0]
    show(figures, targets())
    if arguments.json is not None:
        write(arguments.json, figures)


def _free(requests: int) -> dict[str, float]:
    """Load with the server's defaults, except that no search ends early, so that all do the same work."""

    def bodies(count: int) -> list[Body]:
        base = {"problem": PROBLEM, "timeout_s": DEFAULTS.max_timeout_s, "search": {"stop_when_decided": False}}
        return [{**base, "seed": seed} for seed in range(count)]

    async def small(server: ServerProcess) -> dict[str, float]:
        async with open_clients(1) as (reader,):
            asked = [{**body, **SMALL, "problem": SHORT_PROBLEM} for body in bodies(requests)]
            return (await run_level(server, reader, asked, clients=16, cpu_s=server.cpu_s)).figures()

    with started(FREE, {}) as server:
        figures = asyncio.run(_load(server, bodies, requests=requests, rounds=ROUNDS[FREE], cpu_s=server.cpu_s))
        figures |= {f"16_clients_small/{name}": value for name, value in asyncio.run(small(server)).items()}
    return {f"free/{name}": value for name, value in figures.items()}


def _bundled(requests: int) -> dict[str, float]:
    def bodies(count: int) -> list[Body]:
        return _problems(count, SMALL)

    meter = CpuMeter()

    def cpu_s() -> float:
        """CPU time of the server. The meter also counts this process, which runs the clients."""
        return meter.read_s() - time.process_time()

    with started(BUNDLED, {}) as server:
        figures = asyncio.run(_load(server, bodies, requests=requests, rounds=ROUNDS[BUNDLED], cpu_s=cpu_s))
    return {f"bundled/{name}": value for name, value in figures.items()}


async def _load(
    server: ServerProcess, bodies_for: BodiesFor, *, requests: int, rounds: int, cpu_s: Clock
) -> dict[str, float]:
    figures: dict[str, float] = {}
    async with open_clients(1) as (reader,):
        await run_level(server, reader, bodies_for(WARM_UP), clients=4, cpu_s=cpu_s)
        for clients in CLIENTS:
            level = await run_level(server, reader, bodies_for(requests), clients=clients, cpu_s=cpu_s)
            figures |= {f"{clients}_clients/{name}": value for name, value in level.figures().items()}
        met = await overload(server, reader, bodies_for, holds=HOLDS, rounds=rounds)
    return figures | {f"overload/{name}": value for name, value in met.items()}


def _leaving(name: str, settings: Mapping[str, object]) -> dict[str, float]:
    endless = {"trajectories": LEAVING_TRAJECTORIES, "temperature": HOT, "search": {"stop_when_decided": False}}

    async def leave(server: ServerProcess) -> dict[str, float]:
        async with open_clients(1) as (reader,):
            await run_level(server, reader, _problems(WARM_UP, {"trajectories": 1}), clients=4, cpu_s=server.cpu_s)
            return await leave_all(server, reader, _problems(LEAVING_CLIENTS, endless))

    with started(BUNDLED, settings) as server:
        return {f"{name}/{figure}": value for figure, value in asyncio.run(leave(server)).items()}


def _problems(count: int, asking: Body) -> list[Body]:
    """Problems of all families in turn."""
    by_family = [family_problems(name, -(-count // len(FAMILIES))) for name in FAMILIES]
    questions = [problem.question for problems in zip(*by_family, strict=True) for problem in problems]
    base = {"timeout_s": DEFAULTS.max_timeout_s, **asking}
    return [{**base, "problem": question, "seed": seed} for seed, question in enumerate(questions[:count])]


if __name__ == "__main__":
    main()
