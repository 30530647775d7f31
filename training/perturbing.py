"""Perturbing: runs right programs with one change, to find the changes that spoil the result."""

import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import Sandbox, wanted_level
from search import Execution, ExecutionOutcome
from search.format import observation
from server.parts.runner import STEP_LIMITS, SandboxRunner
from training.examples.perturbations import perturbations, perturbed_pair
from training.examples.preferences import pair_record
from training.rollouts import Trees, seed_of
from training.workers import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturb:
    """The work of finding the perturbed pairs of a problem, whose id is the item."""

    trees: Path
    count: int
    """Changes tried per problem."""
    seed: int

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[str], Awaitable[Result]]]:
        """See `training.workers.Work`."""
        trees = Trees(self.trees)
        sandbox = Sandbox(limits=STEP_LIMITS, workers=2, min_level=wanted_level(os.environ))
        async with sandbox:

            async def perturb(problem_id: str) -> Result:
                seed = seed_of(self.seed, problem_id)
                tried = perturbations(problem_id, trees[problem_id], rng=random.Random(seed), count=self.count)
                outputs = [await run_program(sandbox, one.program, seed=seed) for one in tried]
                pairs = map(perturbed_pair, tried, outputs)
                return {"tried": len(tried), "pairs": [pair_record(pair) for pair in pairs if pair is not None]}

            yield perturb


async def run_program(sandbox: Sandbox, steps: Sequence[str], *, seed: int) -> str | None:
    """What the models would be shown of a program; None where a step failed."""
    executions: list[Execution] = []
    async with sandbox.tree(seed=seed) as tree:
        runner = SandboxRunner(tree)
        for step in steps:
            executions.append(await runner.run(executions[-1].snapshot if executions else None, step))
            if executions[-1].outcome is not ExecutionOutcome.OK:
                return None
    return observation(executions)
