"""Search overhead: the CPU time that our own Python takes per node of a tree, with parts that cost nothing.

    python benchmarks/search_overhead.py [--json PATH] [--searches N] [--profile]

The parts are the fakes of `search.testing.fakes` without any waiting. Their own time is measured by replaying the
recorded calls, and is subtracted. `--profile` shows where the rest goes.
"""

import argparse
import asyncio
import cProfile
import json
import os
import platform
import pstats
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fill.free_parts import PROBLEM, ask_again, free_parts
from search import Budget, SearchConfig, SearchResult, search

CASES = ((16, 1), (16, 4), (256, 4))
"""Trajectories, and rollouts in flight: the server's default budget, and its largest."""
CANDIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The cost of searches of one kind."""

    nodes: int
    seconds: float
    """CPU time of the searches, parts included."""
    parts_seconds: float
    """CPU time of the same calls of the parts alone."""

    @property
    def per_node_us(self) -> float:
        """Our own time per node, in microseconds."""
        return 1e6 * (self.seconds - self.parts_seconds) / self.nodes


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="CPU time of the search itself")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--searches", type=int, default=5, help="searches per case")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for trajectories, width in CASES:
        measured = asyncio.run(_measure(trajectories, width, searches=arguments.searches))
        name = f"{trajectories}_trajectories/{width}_in_flight"
        figures[f"{name}/nodes"] = measured.nodes
        figures[f"{name}/us_per_node"] = measured.per_node_us
    if arguments.profile:
        _profile(lambda: asyncio.run(_measure(*CASES[-1], searches=1)))
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    if arguments.json is not None:
        machine = {"machine": f"{platform.machine()} {platform.system()}", "cores": os.cpu_count()}
        content = {**figures, **machine, "python": platform.python_version()}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


async def _measure(trajectories: int, width: int, *, searches: int) -> Measured:
    nodes = 0
    seconds = parts_seconds = 0.0
    for seed in range(searches):
        began_s = time.process_time()
        result = await _search(trajectories, width, seed=seed)
        seconds += time.process_time() - began_s
        nodes += len(result.tree.nodes)
        began_s = time.process_time()
        await ask_again(result, candidates=CANDIDATES, seed=seed)
        parts_seconds += time.process_time() - began_s
    return Measured(nodes=nodes, seconds=seconds, parts_seconds=parts_seconds)


async def _search(trajectories: int, width: int, *, seed: int) -> SearchResult:
    return await search(
        PROBLEM,
        parts=free_parts(),
        config=SearchConfig(candidates=CANDIDATES, parallel_rollouts=width),
        budget=Budget(trajectories=trajectories),
        seed=seed,
        now=time.monotonic,
    )


def _profile(work: Callable[[], object]) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(work)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
