"""Searcher: solves problems with the models of a folder, in this process, and many of them at once.

A searcher opens models, sandbox and answer checker for many searches. Work is divided by family among processes, which
end with the run that started them, even if it is killed.
"""

import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from sandbox import Sandbox, wanted_level
from search import Budget, Judge, Parts, Policy, SearchConfig, SearchResult, StepScorer, search
from server.answers.equality import EqualityPool
from server.bundle.folders import ModelFolders
from server.engines.choice import EngineOptions, make_engines, make_policy
from server.engines.protocols import Sampling
from server.engines.torch.loop import ComputeThread
from server.engines.torch.model import Precision
from server.engines.torch.runtime import TorchRuntime
from server.parts.runner import STEP_LIMITS, SandboxRunner

Item = TypeVar("Item")

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_step_tokens=256)
"""The sampling of the published code."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
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
        """One search in a sandbox tree of its own; `policy` and `scorer` replace the searcher's."""
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
async def open_searcher(
    policy_folder: Path, ppm_folder: Path | None, *, precision: Precision = Precision.FLOAT32
) -> AsyncGenerator[Searcher]:
    """Load the models and start the processes; everything ends with the context.

    Computes on one thread: an offline run keeps the cores busy with one searcher per core. In bfloat16 it generates
    about a third more tokens a second on large batches, at the price of exact repetition.
    """
    runtime = TorchRuntime(compute=ComputeThread(threads=1), precision=precision)
    options = EngineOptions(backend="torch", torch=runtime)
    if ppm_folder is None:
        policy, scorer = make_policy(policy_folder, options), None
    else:
        engines = make_engines(ModelFolders(policy=policy_folder, ppm=ppm_folder), options)
        policy, scorer = engines.policy, engines.ppm
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(policy)
        if scorer is not None:
            await stack.enter_async_context(scorer)
        yield Searcher(
            policy=policy.policy(SAMPLING),
            greedy=policy.policy(replace(SAMPLING, temperature=0.0)),
            scorer=scorer,
            equality=await stack.enter_async_context(EqualityPool()),
            sandbox=await stack.enter_async_context(
                Sandbox(limits=STEP_LIMITS, workers=2, min_level=wanted_level(os.environ))
            ),
        )
