"""The workbench: models, sandbox and answer checker of an offline run, opened once and shared by many searches."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sandbox import Limits, Sandbox
from search import Budget, Judge, Parts, SearchConfig, SearchResult, search
from search.protocols import Policy, StepScorer
from server.engines.checkpoint import load_policy, load_ppm
from server.engines.compute import ComputeThread
from server.engines.torch_policy import TorchPolicy
from server.engines.torch_ppm import TorchScorer
from server.engines.torch_runtime import Precision, TorchRuntime
from server.equality import EqualityPool
from server.runner import SandboxRunner

Item = TypeVar("Item")

STEP_LIMITS = Limits(cpu_s=3.0, wall_s=15.0)
"""Steps of the bundled families take milliseconds; a runaway loop should not hold up a run of thousands of searches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the policy draws candidates."""

    temperature: float = 1.0
    """As the published code samples."""
    top_p: float = 1.0
    max_step_tokens: int = 256
    precision: Precision = Precision.FLOAT32
    """bfloat16 generates about a third more tokens a second on large batches, at the price of exact repetition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Open parts; `greedy` is the same model as `policy`, decoded without sampling."""

    policy: Policy
    greedy: Policy
    scorer: StepScorer | None
    equality: EqualityPool
    sandbox: Sandbox
    now: Callable[[], float] = field(default=time.monotonic)

    async def search(  # noqa: PLR0913  # what one search is made of
        self,
        problem: str,
        *,
        config: SearchConfig,
        budget: Budget,
        seed: int,
        policy: Policy | None = None,
        scorer: StepScorer | None = None,
        judge: Judge | None = None,
    ) -> SearchResult:
        """One search in a sandbox tree of its own; `policy` and `scorer` replace the workbench's."""
        async with self.sandbox.tree(seed=seed) as tree:
            parts = Parts(
                policy=policy or self.policy,
                runner=SandboxRunner(tree),
                equality=self.equality,
                scorer=scorer or self.scorer,
                judge=judge,
            )
            return await search(problem, parts=parts, config=config, budget=budget, seed=seed, now=self.now)


@asynccontextmanager
async def open_workbench(
    policy_folder: Path, ppm_folder: Path | None, *, sampling: Sampling
) -> AsyncGenerator[Workbench]:
    """Load the models and start the processes; everything ends with the context.

    Computes on one thread: an offline run keeps the cores busy with one workbench per core.
    """
    runtime = TorchRuntime(compute=ComputeThread(threads=1), precision=sampling.precision)
    policy = load_policy(policy_folder)
    async with AsyncExitStack() as stack:
        sampled, greedy = [
            await stack.enter_async_context(
                TorchPolicy(
                    policy,
                    temperature=temperature,
                    top_p=sampling.top_p,
                    max_step_tokens=sampling.max_step_tokens,
                    runtime=runtime,
                )
            )
            for temperature in (sampling.temperature, 0.0)
        ]
        scorer = None
        if ppm_folder is not None:
            scorer = await stack.enter_async_context(TorchScorer(load_ppm(ppm_folder), runtime=runtime))
        yield Workbench(
            policy=sampled,
            greedy=greedy,
            scorer=scorer,
            equality=await stack.enter_async_context(EqualityPool()),
            sandbox=await stack.enter_async_context(Sandbox(limits=STEP_LIMITS, workers=2)),
        )


async def run_concurrently(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, concurrency: int) -> None:
    """Do `work` for every item, `concurrency` at a time; the first failure ends them all."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
