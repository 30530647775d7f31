"""Parallel rollouts: how much time several rollouts in flight in one tree save, and how much accuracy they cost.

    python benchmarks/parallel_rollouts.py [--json PATH] [--simulated N] [--problems N]

There are two parts. *Simulated* uses the small arithmetic world of `search.testing.fakes` with a PPM that is often
wrong. Its engine takes 25 ms for each decoding step of any batch, as a GPU does. Time is simulated, so this part
measures only the search itself, and is the same on every machine. *Bundled* uses the shipped models on the torch
engine: N problems of each of their families, one request at a time.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fill.simulated_clock import run_simulated
from benchmarks.fill.wordy_world import DECODE_STEP_S, RUN_S, draw_sum, wordy_parts
from search import Budget, CallKind, SearchConfig, search
from search.testing.delays import Delays
from server.bundle.folders import bundled_models
from training.problems.families import FAMILIES, family_problems, missing_generator
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.searcher import Searcher, open_searcher

WIDTHS = (1, 2, 4, 8)
TRAJECTORIES = 16
CANDIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one search."""

    is_right: bool
    seconds: float
    tokens: int
    policy_calls: float | None = None
    """Mean rollouts in flight over the time of the search; only with simulated time."""


Outcomes = Mapping[int, Sequence[Outcome]]
"""Outcomes by rollouts in flight."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="rollouts in flight: time and accuracy")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--simulated", type=int, default=200, help="simulated problems; 0 leaves them out")
    parser.add_argument("--problems", type=int, default=1, help="problems per bundled family; 0 leaves them out")
    arguments = parser.parse_args()
    if arguments.problems and (reason := missing_generator()):
        sys.exit(reason)
    figures: dict[str, float] = {}
    ratios: list[str] = []
    parts: dict[str, Outcomes] = {}
    if arguments.simulated:
        parts["simulated"] = _simulated(arguments.simulated)
    if arguments.problems:
        parts["bundled"] = asyncio.run(_bundled(arguments.problems))
    for name, outcomes in parts.items():
        for width, done in outcomes.items():
            figures |= {f"{name}/{width}/{figure}": value for figure, value in _figures(done).items()}
            if width != WIDTHS[0]:
                ratios.append(f"{name}: {_ratio(outcomes, width)}")
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    print(*ratios, sep="\n")
    if arguments.json is not None:
        machine = {"machine": f"{platform.machine()} {platform.system()}", "cores": os.cpu_count()}
        versions = {"python": platform.python_version(), "torch": version("torch")}
        arguments.json.write_text(json.dumps({**figures, **machine, **versions}, indent=2) + "\n")


def _simulated(problems: int) -> Outcomes:
    return {width: [run_simulated(simulated_search(width, seed=seed)) for seed in range(problems)] for width in WIDTHS}


async def _bundled(problems: int) -> Outcomes:
    models = bundled_models()
    outcomes: dict[int, list[Outcome]] = {width: [] for width in WIDTHS}
    async with open_searcher(models.policy, models.ppm) as searcher:
        for family in FAMILIES:
            for problem in family_problems(family, problems):
                for width in WIDTHS:
                    outcomes[width].append(await _bundled_search(searcher, problem, width))
    return outcomes


async def _bundled_search(searcher: Searcher, problem: Problem, width: int) -> Outcome:
    config = SearchConfig(candidates=CANDIDATES, parallel_rollouts=width)
    began_s = time.monotonic()
    result = await searcher.search(problem.question, config=config, budget=Budget(trajectories=TRAJECTORIES), seed=0)
    return Outcome(
        is_right=result.answer is not None and await Grader(searcher.equality).is_right(problem, result.answer),
        seconds=time.monotonic() - began_s,
        tokens=result.tree.tokens,
    )


def _figures(done: Sequence[Outcome]) -> dict[str, float]:
    figures = {
        "problems": float(len(done)),
        "right": mean(one.is_right for one in done),
        "seconds": mean(one.seconds for one in done),
        "tokens": mean(one.tokens for one in done),
    }
    if calls := [one.policy_calls for one in done if one.policy_calls is not None]:
        figures["policy_calls_in_flight"] = mean(calls)
    return figures


def _ratio(outcomes: Outcomes, width: int) -> str:
    alone, together = _figures(outcomes[WIDTHS[0]]), _figures(outcomes[width])
    return (
        f"{width} rollouts in flight are {alone['seconds'] / together['seconds']:.2f} times as fast as one, "
        f"{100 * (together['right'] - alone['right']):+.1f} points right"
    )


async def simulated_search(width: int, *, seed: int) -> Outcome:
    """Search for one problem, in simulated time."""
    problem = draw_sum(seed)
    busy = _Busy(asyncio.get_running_loop().time)

    async def pause(kind: CallKind, size: int) -> None:
        if kind is CallKind.POLICY:
            with busy.one():
                await asyncio.sleep(DECODE_STEP_S * size)
        elif kind is not CallKind.EQUALITY:
            await asyncio.sleep(DECODE_STEP_S if kind is CallKind.SCORER else RUN_S)

    result = await search(
        problem.question,
        parts=Delays(pause).wrap(wordy_parts()),
        config=SearchConfig(candidates=CANDIDATES, parallel_rollouts=width),
        budget=Budget(trajectories=TRAJECTORIES),
        seed=seed,
        now=asyncio.get_running_loop().time,
    )
    seconds = asyncio.get_running_loop().time()
    return Outcome(
        is_right=result.answer == problem.answer,
        seconds=seconds,
        tokens=result.tree.tokens,
        policy_calls=busy.seconds / seconds,
    )


class _Busy:
    """Adds up the seconds of all blocks. Overlapping blocks count once each."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.seconds = 0.0

    def one(self) -> "_Busy":
        """Spans a block."""
        return self

    def __enter__(self) -> None:
        self.seconds -= self._now()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now()


if __name__ == "__main__":
    main()
