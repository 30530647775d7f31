"""Sandbox: the cost of a step, compared with fresh processes, replays, unconfined steps and plain re-execution.

    python benchmarks/sandbox.py [--json PATH] [--quick] [--rounds N]

Runs six ordinary chains of sixteen steps, and one with an expensive early step, in every way. The ways alternate chain
by chain, so that other load on the machine affects all alike. Absolute times mean little on a busy machine; the ratios
are printed last. Needs the kernel's performance events for CPU times (root, or kernel.perf_event_paranoid <= 2).
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import mean, median, quantiles

# This file is named like the package it measures, and Python would search its folder first.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps.chains import DEPTH, Chain, load_chains
from benchmarks.steps.death import survival_s
from benchmarks.steps.growth import DEAR, TRIVIAL, grow
from benchmarks.steps.meter import CpuMeter
from benchmarks.steps.processes import members, memory_of
from benchmarks.steps.report import Target, show, write
from benchmarks.steps.walks import Walk, Way, in_fresh_processes, in_one_process, on_sandbox
from sandbox import CacheLimits, Level, Limits, Mechanism, Sandbox

LIMITS = Limits(cpu_s=30, wall_s=300)
KEEPS_NOTHING = CacheLimits(snapshot_mb=1)
"""The smallest state is larger than this."""
LIVE_PER_TREE = (8, 32)
_MB = 1 << 20

TARGETS = (
    Target(name="fresh/snapshot", words="fresh process / snapshot, CPU per step, depths 1 to 16", least=20),
    Target(name="replay/snapshot/depth_16", words="replay from the zygote / snapshot, CPU at depth 16", least=4),
    Target(
        name="reference/snapshot/heavy",
        words="in-process re-execution / snapshot, CPU, one heavy early step",
        least=3,
    ),
    Target(name="reference/snapshot/light", words="in-process re-execution / snapshot, CPU, the six light chains"),
    Target(name="reference/snapshot/lightest", words="in-process re-execution / snapshot, CPU, lightest chain"),
    Target(name="isolated/bare", words="isolated / bare, CPU", most=1.1),
    Target(name="growth", words="depth 16 / depth 1, CPU per step without the step's own", most=2),
    Target(name="snapshot/pss_mb", words="memory per live snapshot, PSS, median, MB", most=4),
    Target(
        name="hit_rate/32_live/dear_steps",
        words="parents found alive, 32 live per tree, steps of 5 ms",
        least=0.95,
    ),
    Target(name="hit_rate/32_live/trivial_steps", words="the same, steps that are cheap to replay"),
    Target(
        name="server_killed/all_gone_ms/5_live",
        words="kill -9 of the server until nothing is alive, 5 snapshots, median, ms",
        most=100,
    ),
    Target(name="server_killed/all_gone_ms/40_live", words="the same, 40 snapshots of 4 trees"),
)

Walks = Mapping[str, Mapping[str, list[Walk]]]
"""By way and chain, one per round."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="what a step in the sandbox costs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--rounds", type=int, default=3, help="walks of each chain in each way")
    parser.add_argument("--quick", action="store_true", help="one round, smaller trees: for a first look")
    arguments = parser.parse_args()
    figures = asyncio.run(_measure(1 if arguments.quick else arguments.rounds, is_quick=arguments.quick))
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)


async def _measure(rounds: int, *, is_quick: bool) -> dict[str, float]:
    meter = CpuMeter()
    figures = {"load_1_minute/start": os.getloadavg()[0]}
    figures |= _compare(await _walk_all(meter, rounds))
    figures |= await _measure_memory()
    figures |= await _measure_creation(meter, trees=10 if is_quick else 40)
    for live in LIVE_PER_TREE:
        for kind, step in {"dear_steps": DEAR, "trivial_steps": TRIVIAL}.items():
            figures |= await _measure_hits(f"{live}_live/{kind}", step, live, trees=1 if is_quick else 3)
    for trees, snapshots in ((1, 5), (4, 10)):
        name = f"server_killed/all_gone_ms/{trees * snapshots}_live"
        deaths_ms = [1000 * await survival_s(trees=trees, snapshots=snapshots) for _ in range(2 if is_quick else 7)]
        figures |= {name: median(deaths_ms), f"{name}/worst": max(deaths_ms)}
    figures["load_1_minute/end"] = os.getloadavg()[0]
    return figures


async def _walk_all(meter: CpuMeter, rounds: int) -> Walks:
    chains = load_chains()
    async with AsyncExitStack() as stack:
        snapshots, replays, bare = [
            await stack.enter_async_context(sandbox)
            for sandbox in (
                Sandbox(limits=LIMITS, workers=1),
                Sandbox(limits=LIMITS, workers=1, cache=KEEPS_NOTHING),
                Sandbox(limits=LIMITS, workers=1, min_level=Level.NONE, switched_off=frozenset(Mechanism)),
            )
        ]
        ways: dict[str, Way] = {
            "snapshot": on_sandbox(snapshots, meter),
            "bare": on_sandbox(bare, meter),
            "replay": on_sandbox(replays, meter, replays=True),
            "reference": await stack.enter_async_context(in_one_process()),
            "fresh": in_fresh_processes(meter),
        }
        walks: dict[str, dict[str, list[Walk]]] = {way: {chain.name: [] for chain in chains} for way in ways}
        for number in range(rounds):
            for chain in chains:
                await _walk(chain, ways, walks, first=number)
    return walks


async def _walk(chain: Chain, ways: Mapping[str, Way], walks: dict[str, dict[str, list[Walk]]], *, first: int) -> None:
    order = list(ways)
    printed: dict[str, list[str]] = {}
    for position in range(len(order)):
        way = order[(first + position) % len(order)]
        walk = await ways[way](chain)
        walks[way][chain.name].append(walk)
        printed[way] = walk.printed
    assert all(texts == printed["fresh"] for texts in printed.values()), f"{chain.name} prints differ"


def _compare(walks: Walks) -> dict[str, float]:
    cpu_s = {
        way: {name: mean(walk.mean_cpu_s for walk in of_chain) for name, of_chain in chains.items()}
        for way, chains in walks.items()
    }
    figures = {f"cpu_ms/{name}/{way}": 1000 * cpu_s[way][name] for name in cpu_s["fresh"] for way in cpu_s}
    heavy = [chain.name for chain in load_chains() if chain.is_heavy]
    light = [chain.name for chain in load_chains() if not chain.is_heavy]
    deep = {
        way: {name: mean(walk.cpu_s[-1] for walk in walks[way][name]) for name in light}
        for way in ("replay", "snapshot")
    }
    for name in light:
        figures[f"fresh/snapshot/{name}"] = cpu_s["fresh"][name] / cpu_s["snapshot"][name]
        figures[f"reference/snapshot/{name}"] = cpu_s["reference"][name] / cpu_s["snapshot"][name]
        figures[f"replay/snapshot/depth_16/{name}"] = deep["replay"][name] / deep["snapshot"][name]
    figures["reference/snapshot/lightest"] = min(figures[f"reference/snapshot/{name}"] for name in light)

    def ratio(above: str, names: list[str]) -> float:
        return mean(cpu_s[above][name] for name in names) / mean(cpu_s["snapshot"][name] for name in names)

    figures["fresh/snapshot"] = ratio("fresh", light)
    figures["reference/snapshot/light"] = ratio("reference", light)
    figures["reference/snapshot/heavy"] = ratio("reference", heavy)
    figures["isolated/bare"] = 1 / ratio("bare", light)
    figures["replay/snapshot/depth_16"] = mean(deep["replay"].values()) / mean(deep["snapshot"].values())
    return figures | _overheads([walk for name in light for walk in walks["snapshot"][name]])


def _overheads(walks: list[Walk]) -> dict[str, float]:
    by_depth = [median(walk.overhead_s[depth] for walk in walks) for depth in range(DEPTH)]
    figures = {f"overhead_ms/depth_{depth}": 1000 * by_depth[depth - 1] for depth in (1, 2, 4, 8, 12, 16)}
    figures["wall_ms/median"] = 1000 * median(wall_s for walk in walks for wall_s in walk.wall_s)
    figures["growth"] = by_depth[-1] / by_depth[0]
    return figures


async def _measure_memory() -> dict[str, float]:
    """The memory of all snapshots that the walks of the light chains leave alive."""
    async with Sandbox(limits=LIMITS, workers=1) as sandbox:
        for chain in load_chains():
            if not chain.is_heavy:
                tree, parent = sandbox.tree(seed=1), None
                for step in chain.steps:
                    parent = (await tree.run(parent, step)).snapshot
        session = sandbox.zygote_pid
        assert session is not None
        nodes = [process.pid for process in members(session) if process.is_node(session)]
        memory = [memory_of(pid) for pid in nodes]
    pss_mb = [each.pss / _MB for each in memory]
    return {
        "snapshot/live": len(memory),
        "snapshot/pss_mb": median(pss_mb),
        "snapshot/pss_mb/90_percent": quantiles(pss_mb, n=10)[-1],
        "snapshot/private_dirty_mb": median(each.private_dirty / _MB for each in memory),
    }


async def _measure_creation(meter: CpuMeter, *, trees: int) -> dict[str, float]:
    """Compare the first step of a tree with its second, both from a fresh interpreter."""
    first_ms: list[float] = []
    second_ms: list[float] = []
    cpu_ms: list[float] = []
    async with Sandbox(limits=LIMITS, workers=1) as sandbox:
        async with sandbox.tree() as tree:
            await tree.run(None, "")  # fills the pool
        for _ in range(trees):
            began_cpu_s = await meter.quiet()
            async with sandbox.tree() as tree:
                for times_ms in (first_ms, second_ms):
                    began_s = time.perf_counter()
                    await tree.run(None, "x = 1")
                    times_ms.append(1000 * (time.perf_counter() - began_s))
            cpu_ms.append(1000 * (await meter.quiet() - began_cpu_s))
    return {
        "tree/first_step_ms": median(first_ms),
        "tree/second_step_ms": median(second_ms),
        "tree/from_pool_ms": median(first - second for first, second in zip(first_ms, second_ms, strict=True)),
        "tree/cpu_ms_with_two_steps_and_its_successor": median(cpu_ms),
    }


async def _measure_hits(name: str, step: str, live: int, *, trees: int) -> dict[str, float]:
    async with Sandbox(limits=LIMITS, workers=1, cache=CacheLimits(per_tree=live)) as sandbox:
        steps = sum([await grow(sandbox, step, rollouts=16, seed=seed) for seed in range(trees)])
        counters = sandbox.counters
        assert counters.hit_rate is not None
        return {f"hit_rate/{name}": counters.hit_rate, f"replayed_per_step/{name}": counters.replayed_steps / steps}


if __name__ == "__main__":
    main()
