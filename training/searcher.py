"""Searcher: solves problems with the models of two folders, in this process, and many of them at once.

A searcher opens models, sandbox and answer checker for many searches.
"""

import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sandbox import Sandbox, wanted_level
from search import Budget, Judge, OnEvent, Parts, Policy, SearchConfig, SearchResult, StepScorer, Tree, search
from server.answers.equality import EqualityPool
from server.bundle.folders import ModelFolders
from server.engines.choice import EngineOptions, make_engines, make_policy
from server.engines.protocols import Sampling
from server.engines.torch.loop import ComputeThread
from server.engines.torch.model import Precision
from server.engines.torch.runtime import TorchRuntime
from server.parts.runner import STEP_LIMITS, SandboxRunner
from training.recipe import Engine, Search


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
        tree: Tree | None = None,
        on_event: OnEvent | None = None,
    ) -> SearchResult:
        """One search in a sandbox tree of its own; `policy` and `scorer` replace the searcher's."""
        async with self.sandbox.tree(seed=seed) as sandbox_tree:
            parts = Parts(
                policy=policy or self.policy,
                runner=SandboxRunner(sandbox_tree),
                equality=self.equality,
                scorer=scorer or self.scorer,
                judge=judge,
            )
            return await search(
                problem,
                parts=parts,
                config=config,
                budget=budget,
                seed=seed,
                now=self.now,
                tree=tree,
                on_event=on_event,
            )


@asynccontextmanager
async def open_searcher(
    policy: Path, ppm: Path | None, *, engine: Engine | None = None, settings: Search | None = None
) -> AsyncGenerator[Searcher]:
    """Load the models and start the processes; everything ends with the context.

    The torch engine computes on one thread: an offline run keeps the cores busy with one searcher per core.
    """
    engine, settings = engine or Engine(), settings or Search()
    sampling = Sampling(
        temperature=settings.temperature, top_p=settings.top_p, max_step_tokens=settings.max_step_tokens
    )
    runtime = TorchRuntime(compute=ComputeThread(threads=1), precision=Precision(engine.precision))
    options = EngineOptions(backend=engine.backend, torch=runtime)
    if ppm is None:
        policy_engine, scorer = make_policy(policy, options), None
    else:
        engines = make_engines(ModelFolders(policy=policy, ppm=ppm), options)
        policy_engine, scorer = engines.policy, engines.ppm
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(policy_engine)
        if scorer is not None:
            await stack.enter_async_context(scorer)
        yield Searcher(
            policy=policy_engine.policy(sampling),
            greedy=policy_engine.policy(replace(sampling, temperature=0.0)),
            scorer=scorer,
            equality=await stack.enter_async_context(EqualityPool()),
            sandbox=await stack.enter_async_context(
                Sandbox(limits=STEP_LIMITS, workers=2, min_level=wanted_level(os.environ))
            ),
        )
