"""The workbench: models, sandbox and answer checker of an offline run, opened once and shared by many searches."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from sandbox import Sandbox, wanted_level
from search import Budget, Judge, Parts, SearchConfig, SearchResult, search
from search.protocols import Policy, StepScorer
from server.answers.equality import EqualityPool
from server.bundle.folders import ModelFolders
from server.engines.protocols import Sampling as Drawing
from server.engines.torch.compute import ComputeThread
from server.engines.torch.engines import torch_engines, torch_policy_engine
from server.engines.torch.matrices import Precision
from server.engines.torch.runtime import TorchRuntime
from server.parts.runner import STEP_LIMITS, SandboxRunner

Item = TypeVar("Item")


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
    if ppm_folder is None:
        policy, scorer = torch_policy_engine(policy_folder, runtime), None
    else:
        engines = torch_engines(ModelFolders(policy=policy_folder, ppm=ppm_folder), runtime)
        policy, scorer = engines.policy, engines.ppm
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(policy)
        if scorer is not None:
            await stack.enter_async_context(scorer)
        drawing = Drawing(
            temperature=sampling.temperature, top_p=sampling.top_p, max_step_tokens=sampling.max_step_tokens
        )
        yield Workbench(
            policy=policy.policy(drawing),
            greedy=policy.policy(replace(drawing, temperature=0.0)),
            scorer=scorer,
            equality=await stack.enter_async_context(EqualityPool()),
            sandbox=await stack.enter_async_context(
                Sandbox(limits=STEP_LIMITS, workers=2, min_level=wanted_level(os.environ))
            ),
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
