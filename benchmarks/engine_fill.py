"""Engine fill: how much of the machine searches use, alone and many at once, compared with other ways of running them.

    python benchmarks/engine_fill.py [--json PATH] [--quick] [--engine torch|vllm]

*Efficiency* is the useful core-seconds divided by all core-seconds. It is measured in two runs.

1. 1, 4 or 16 requests are kept in flight until enough are answered: each is followed by the next at once. Their calls
   of policy, PPM and sandbox are recorded.
2. Each kind of call is replayed by itself, all calls at the same time, on parts that never saw the problems. The engine
   can thus make its batches as large as possible, and computes each shared prefix once, as it did in the searches. Code
   steps run in as many trees at once as there were requests. The CPU time of this process and all its children during
   the replay is the useful part.

Efficiency is the sum of the replays, divided by wall time times cores of the searches. The report also divides the
searches' time by kind. The shares of policy, PPM, sandbox, search (our Python) and answer checking are CPU times of the
searches themselves. Another share is what other processes took; idle is the rest. If others took much, the figure is a
lower bound of the efficiency. `without_others` is an upper bound: it subtracts all that they took from wall time times
cores, though some of it would have been idle.

*Slot fill* is the share of slots in use on a simulated engine: it has 256 slots, and any step takes 25 ms, whatever the
batch.

*Our Python* is the server's CPU time per node, from HTTP request to response, on parts that cost nothing. It is divided
by the core-seconds that a node took at 16 requests.

Each is also measured with rollouts one at a time, and in *lock-step*: every policy call waits until every live search
has made one. *Cancelling* is the time from the cancellation of a search with 16 candidates in flight until the engines
are idle and its processes are gone. `--quick` leaves out everything that needs models.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from server.engines.torch.openmp import wait_passively

if __name__ == "__main__":
    wait_passively()

from benchmarks.fill.cancelling import cancel_one
from benchmarks.fill.modes import Load, Mode
from benchmarks.fill.parts import OpenParts, open_parts
from benchmarks.fill.processor_time import Clock
from benchmarks.fill.served_load import CORES, replay, serve_load
from benchmarks.fill.server_python import seconds_per_node
from benchmarks.fill.simulated_clock import run_simulated
from benchmarks.fill.simulated_load import simulate
from benchmarks.steps.meter import CpuMeter
from benchmarks.steps.report import Target, show, write
from search import Budget, SearchConfig
from server.bundle.folders import bundled_models
from server.settings.settings import Settings
from training.problems.families import FAMILIES, family_problems, missing_generator

SLOTS = 256
"""Slots of the simulated engine: the largest batch of our own engines."""
IN_FLIGHT = Mode(name="in_flight", rollouts=Settings().parallel_rollouts)
ONE_AT_A_TIME = Mode(name="one_at_a_time", rollouts=1)
LOCK_STEP = Mode(name="lock_step", rollouts=Settings().parallel_rollouts, is_lock_step=True)
PUBLISHED = Mode(name="one_at_a_time_in_lock_step", rollouts=1, is_lock_step=True)
SURE = Mode(name="in_flight_at_temperature_1", rollouts=Settings().parallel_rollouts, temperature=1.0)
OTHERS = (ONE_AT_A_TIME, LOCK_STEP, PUBLISHED)

SIMULATED = [
    Load(mode=mode, requests=requests, answers=answers)
    for requests, answers in ((1, 8), (4, 16), (16, 48))
    for mode in (IN_FLIGHT, *OTHERS)
    if requests > 1 or not mode.is_lock_step
]
SERVED = (
    Load(mode=IN_FLIGHT, requests=1, answers=8),
    Load(mode=ONE_AT_A_TIME, requests=1, answers=8),
    Load(mode=SURE, requests=1, answers=12),
    Load(mode=IN_FLIGHT, requests=4, answers=14),
    *(Load(mode=mode, requests=16, answers=24) for mode in (IN_FLIGHT, *OTHERS, SURE)),
)
PROBLEMS_PER_FAMILY = 3
"""Enough for the largest load."""
CANCELLATIONS = 5

CONFIG = SearchConfig()
BUDGET = Budget(trajectories=Settings().trajectories)
"""The server's defaults, except that no search stops early, so that all requests of a load do the same work."""

TARGETS = (
    Target(name="1_requests/in_flight/efficiency", words="efficiency, a lone request", least=0.5),
    Target(name="4_requests/in_flight/efficiency", words="efficiency, 4 requests"),
    Target(name="16_requests/in_flight/efficiency", words="efficiency, 16 requests", least=0.7),
    Target(name="1_requests/in_flight_at_temperature_1/efficiency", words="efficiency, a lone request, temperature 1"),
    Target(name="16_requests/in_flight_at_temperature_1/efficiency", words="efficiency, 16 requests, temperature 1"),
    Target(name="simulated/16_requests/in_flight/slot_fill", words="slot fill, 16 requests", least=0.9),
    Target(name="our_python/share", words="our Python / cost of a node", most=0.05),
    Target(name="cancelling/worst_ms", words="cancel until idle and gone, the slowest, ms", most=250),
    Target(name="cancelling/steps_after_return", words="tokens after a cancelled search returned / candidates", most=1),
    *(
        Target(
            name=f"{where}{requests}_requests/{mode.name}/times_as_slow",
            words=f"{mode.name.replace('_', ' ')}, {requests} requests{', simulated' if where else ''}: times as slow",
            least=1,
        )
        for where in ("", "simulated/")
        for requests in (1, 4, 16)
        for mode in OTHERS
    ),
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="how much of the engines and cores searches use")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="skip everything that needs models")
    parser.add_argument("--engine", choices=("torch", "vllm"), default="torch", help="engine for the bundled models")
    arguments = parser.parse_args()
    if not arguments.quick and (reason := missing_generator()):
        sys.exit(reason)
    # It comes first, while the process has little other garbage to collect.
    python_s = asyncio.run(seconds_per_node(requests=5 if arguments.quick else 15))
    figures = {"our_python/us_per_node": 1e6 * python_s, **_simulated()}
    if not arguments.quick:
        figures |= asyncio.run(_measured(arguments.engine, CpuMeter().read_s))
        figures["our_python/share"] = python_s / figures["16_requests/in_flight/core_seconds_per_node"]
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)


def _simulated() -> dict[str, float]:
    figures: dict[str, float] = {}
    for load in SIMULATED:
        measured = run_simulated(simulate(load, slots=SLOTS, config=CONFIG, budget=BUDGET))
        figures |= {f"simulated/{load.name}/{name}": value for name, value in measured.items()}
    return figures | _slowness(figures, SIMULATED, prefix="simulated/")


async def _measured(engine: str, meter: Clock) -> dict[str, float]:
    """Each load and each replay has its own parts, which never saw the problems, so that their caches are empty."""
    figures = {"load_1_minute/start": os.getloadavg()[0], "cores_usable": float(CORES)}
    problems = _problems()

    @asynccontextmanager
    async def fresh() -> AsyncGenerator[OpenParts]:
        async with open_parts(engine, bundled_models(), Settings(), meter) as parts:
            await _warm_up(parts, problems)
            yield parts

    for load in SERVED:
        async with fresh() as parts:
            served = await serve_load(load, parts, problems, config=CONFIG, budget=BUDGET)
        measured = served.figures()
        if load.mode in (IN_FLIGHT, SURE):
            async with fresh() as parts:
                measured |= await replay(served, parts)
        figures |= {f"{load.name}/{name}": value for name, value in measured.items()}
    async with fresh() as parts:
        figures |= await _cancelled(parts, problems)
    figures["load_1_minute/end"] = os.getloadavg()[0]
    return figures | _slowness(figures, SERVED, prefix="")


def _problems() -> Sequence[str]:
    """Problems of all families in turn."""
    by_family = [family_problems(name, PROBLEMS_PER_FAMILY) for name in FAMILIES]
    return [problem.question for problems in zip(*by_family, strict=True) for problem in problems]


async def _warm_up(parts: OpenParts, problems: Sequence[str]) -> None:
    """Solve a problem that no load contains, since first passes are slow."""
    load = Load(mode=IN_FLIGHT, requests=1, answers=1)
    await serve_load(load, parts, problems[-1:], config=CONFIG, budget=Budget(trajectories=4))


async def _cancelled(parts: OpenParts, problems: Sequence[str]) -> dict[str, float]:
    cancelled = [await cancel_one(parts, problems[number], seed=1000 + number) for number in range(CANCELLATIONS)]
    return {
        "cancelling/in_flight": mean(one.in_flight for one in cancelled),
        "cancelling/mean_ms": 1000 * mean(one.idle_s for one in cancelled),
        "cancelling/worst_ms": 1000 * max(one.idle_s for one in cancelled),
        "cancelling/tokens_after": mean(one.tokens for one in cancelled),
        "cancelling/tokens_after_return": mean(one.tokens_after_return for one in cancelled),
        "cancelling/steps_after_return": max(one.tokens_after_return / one.in_flight for one in cancelled),
    }


def _slowness(figures: Mapping[str, float], loads: Sequence[Load], *, prefix: str) -> dict[str, float]:
    """How much slower the other modes are than ours at the same number of requests."""
    return {
        f"{prefix}{load.name}/times_as_slow": figures[f"{prefix}{load.name}/seconds_per_request"]
        / figures[f"{prefix}{replace(load, mode=IN_FLIGHT).name}/seconds_per_request"]
        for load in loads
        if load.mode in OTHERS
    }


if __name__ == "__main__":
    main()
