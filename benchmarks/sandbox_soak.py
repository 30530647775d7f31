"""Sandbox soak: runs many steps in many trees, some of them hostile, and counts what is left behind.

    python benchmarks/sandbox_soak.py [--json PATH] [--steps N] [--trees N] [--hostile SHARE]

The result of every ordinary step, replayed or not, shows whether its state is right. Steps beside a hostile one and in
other trees must not be affected. Processes, descriptors, files and memory are counted before, during and after the run.
The exit code is 1 if anything leaked or was wrong.
"""

import argparse
import asyncio
import gc
import itertools
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps.hostility import ATTACKS, MARK, Hostile
from benchmarks.steps.processes import members, open_descriptors, resident_bytes
from benchmarks.steps.report import Target, show, write
from sandbox import CacheLimits, Limits, Outcome, Sandbox, SnapshotId, StepResult, Tree

LIMITS = Limits(cpu_s=1, wall_s=8, memory_mb=192)
"""Short, because some steps must run into them. The ordinary ones need milliseconds."""
CACHE = CacheLimits(per_tree=16, overall=96, trees=8)
"""Small, so that states are evicted and trees are put to sleep all the time."""
TREES_AT_ONCE = 12
WORKERS = 4
MODULUS = 1_000_003
_MB = 1 << 20
_SETTLE_S = 20.0
_TREES_PER_LINE = 50

TARGETS = (
    Target(name="leaked/processes_after_trees", words="processes more than before the first tree", most=0),
    Target(name="leaked/processes_after_close", words="processes left by the closed sandbox", most=0),
    Target(name="leaked/descriptors_after_trees", words="descriptors of the server more than before", most=0),
    Target(name="leaked/descriptors_after_close", words="the same, sandbox closed", most=0),
    Target(name="leaked/zygote_descriptors", words="descriptors of the zygote more than before", most=0),
    Target(name="leaked/files", words="files made by steps", most=0),
    Target(name="leaked/server_mb", words="memory of the server, last quarter less second quarter, MB", most=4),
    Target(name="leaked/zygote_mb", words="memory of the zygote, the same, MB", most=2),
    Target(name="wrong/ordinary", words="ordinary steps with a wrong result", most=0),
    Target(name="wrong/hostile", words="hostile steps with a forbidden outcome", most=0),
    Target(name="wrong/zygote_restarts", words="zygotes lost", most=0),
)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of steps, and the resources in use each time a tree had ended."""

    ordinary: int = 0
    hostile: int = 0
    below_hostile: int = 0
    """Steps in a state that a hostile step left. They may fail, but must not affect others."""
    wrong_ordinary: list[str] = field(default_factory=list[str])
    wrong_hostile: list[str] = field(default_factory=list[str])
    attacks: Iterator[Hostile] = field(default_factory=lambda: itertools.cycle(ATTACKS))
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    server_mb: list[float] = field(default_factory=list[float])
    zygote_mb: list[float] = field(default_factory=list[float])

    @property
    def steps(self) -> int:
        return self.ordinary + self.hostile + self.below_hostile


def main() -> int:
    """Soak, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(description="processes, files and memory that many steps leave behind")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--hostile", type=float, default=0.05, help="share of hostile steps")
    arguments = parser.parse_args()
    descriptors_before = open_descriptors(os.getpid())
    figures = asyncio.run(_soak(arguments.steps, arguments.trees, arguments.hostile))
    figures["leaked/descriptors_after_close"] = open_descriptors(os.getpid()) - descriptors_before
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)
    return 0 if all(target.is_met(figures[target.name]) for target in TARGETS) else 1


async def _soak(steps: int, trees: int, hostile_share: float) -> dict[str, float]:
    tally = Tally()
    async with Sandbox(limits=LIMITS, workers=WORKERS, cache=CACHE) as sandbox:
        async with sandbox.tree() as tree:
            await tree.run(None, "")  # the pool is full now, and stays full
        session = sandbox.zygote_pid
        assert session is not None
        zygote = next(process.pid for process in members(session) if process.parent == session)
        before = await _settled(session, zygote)
        seeds = iter(range(trees))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(trees, TREES_AT_ONCE)):
                group.create_task(_plant(sandbox, seeds, steps // trees, hostile_share, tally))
        after = await _settled(session, zygote, most=before)
        counters = sandbox.counters
    gc.collect()
    return {
        "steps": tally.steps,
        "trees": trees,
        "steps/ordinary": tally.ordinary,
        "steps/hostile": tally.hostile,
        "steps/below_hostile": tally.below_hostile,
        **{f"outcomes/{outcome}": tally.outcomes[outcome] for outcome in Outcome},
        "hit_rate": counters.hit_rate or 0.0,
        "replayed_steps": counters.replayed_steps,
        "evictions": counters.evictions,
        "violations": counters.violations,
        "resets": counters.resets,
        "server_mb/last": tally.server_mb[-1],
        "server_mb/most": max(tally.server_mb),
        "zygote_mb/last": tally.zygote_mb[-1],
        "leaked/processes_after_trees": after[0] - before[0],
        "leaked/descriptors_after_trees": after[1] - before[1],
        "leaked/zygote_descriptors": after[2] - before[2],
        "leaked/processes_after_close": len(members(session)),
        "leaked/files": len(_planted_files()),
        "leaked/server_mb": _growth(tally.server_mb),
        "leaked/zygote_mb": _growth(tally.zygote_mb),
        "wrong/ordinary": _print_first(tally.wrong_ordinary),
        "wrong/hostile": _print_first(tally.wrong_hostile),
        "wrong/zygote_restarts": counters.zygote_restarts,
    }


async def _plant(sandbox: Sandbox, seeds: Iterator[int], steps: int, hostile_share: float, tally: Tally) -> None:
    """Grow one tree after the other."""
    for seed in seeds:
        rng = random.Random(seed)
        async with sandbox.tree(seed=seed) as tree:
            await _grow(tree, rng, steps, hostile_share, tally)
        session = sandbox.zygote_pid
        tally.server_mb.append(resident_bytes(os.getpid()) / _MB)
        zygotes = [process.pid for process in members(session) if process.parent == session]
        tally.zygote_mb.append(resident_bytes(zygotes[0]) / _MB)
        if len(tally.zygote_mb) % _TREES_PER_LINE == 0:
            print(f"{len(tally.zygote_mb)} trees, {tally.steps} steps", file=sys.stderr, flush=True)


async def _grow(tree: Tree, rng: random.Random, steps: int, hostile_share: float, tally: Tally) -> None:
    """Run each step in an earlier state, mostly a late one. The state is a number that is also computed here."""
    states: list[tuple[SnapshotId | None, int]] = [(None, 1)]
    left = steps
    while left > 0:
        parent, number = states[-1] if rng.random() < 0.6 else rng.choice(states)
        if left > 1 and rng.random() < hostile_share:
            left -= await _attack(tree, parent, next(tally.attacks), tally)
            continue
        factor = rng.randrange(2, 1000)
        wanted = number * factor % MODULUS
        result = await tree.run(parent, _ordinary(factor, is_first=parent is None))
        tally.ordinary += 1
        tally.outcomes[result.outcome] += 1
        left -= 1
        if (result.outcome, result.stdout) == (Outcome.OK, f"{wanted}\n"):
            states.append((result.snapshot, wanted))
        else:
            tally.wrong_ordinary.append(f"{wanted} wanted: {result}")


async def _attack(tree: Tree, parent: SnapshotId | None, attack: Hostile, tally: Tally) -> int:
    """Run the attack, and one step below it if it leaves a state; returns the number of steps."""
    result = await tree.run(parent, attack.code)
    tally.hostile += 1
    tally.outcomes[result.outcome] += 1
    if result.outcome not in attack.outcomes:
        tally.wrong_hostile.append(f"{attack.code!r}: {result}")
    if result.snapshot is None:
        return 1
    below: StepResult = await tree.run(result.snapshot, "print(1)")
    tally.below_hostile += 1
    tally.outcomes[below.outcome] += 1
    return 2


def _ordinary(factor: int, *, is_first: bool) -> str:
    start = "import sympy\nn = sympy.Integer(1)\n" if is_first else ""
    return f"{start}n = n * {factor} % {MODULUS}\nprint(n)"


async def _settled(session: int, zygote: int, most: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """Processes, descriptors here and descriptors of the zygote, once they are stable or at most `most`."""
    seen: list[tuple[int, int, int]] = []
    async with asyncio.timeout(_SETTLE_S):
        while len(seen) < 10 or len(set(seen[-10:])) > 1:
            await asyncio.sleep(0.05)
            gc.collect()
            seen.append((len(members(session)), open_descriptors(os.getpid()), open_descriptors(zygote)))
            if most is not None and all(now <= then for now, then in zip(seen[-1], most, strict=True)):
                break
    return seen[-1]


def _growth(samples: list[float]) -> float:
    """Growth from the second quarter, when everything has been used once, to the last."""
    quarter = max(1, len(samples) // 4)
    return median(samples[-quarter:]) - median(samples[quarter : 2 * quarter] or samples)


def _planted_files() -> list[Path]:
    folders = {Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path.cwd(), Path("/")}
    folders.add(Path(os.__file__).parent)
    return [path for folder in folders if folder.is_dir() for path in folder.glob(f"{MARK}-*")]


def _print_first(complaints: list[str]) -> int:
    """Print the first few complaints; returns how many there are."""
    for complaint in complaints[:5]:
        print(complaint[:1000], file=sys.stderr)
    return len(complaints)


if __name__ == "__main__":
    sys.exit(main())
