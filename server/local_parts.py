"""Local parts: models, sandbox and answer checker of a server that runs its models itself, opened all at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sandbox import Limits, Sandbox, SandboxError
from search import CodeRunner
from server.bundle.folders import ModelFolders
from server.engines.errors import EngineError
from server.equality import EqualityPool, EqualityUnavailable
from server.parts import Part, PartsUnavailable, ServingParts
from server.runner import SandboxRunner
from server.schemas import Models
from server.settings import Settings

if TYPE_CHECKING:
    from server.torch_models import TorchModels

STEP_LIMITS = Limits(cpu_s=3.0, wall_s=15.0)
"""Steps take milliseconds; one in an endless loop holds up its search, so it gets seconds and not more."""


@asynccontextmanager
async def open_local_parts(
    folders: ModelFolders, settings: Settings, report: Callable[[Part], None]
) -> AsyncGenerator[ServingParts]:
    """See `server.parts.OpenParts`."""
    sandbox = Sandbox(limits=STEP_LIMITS, workers=settings.sandbox_workers)
    equality = EqualityPool()

    @asynccontextmanager
    async def open_runner(seed: int) -> AsyncGenerator[CodeRunner]:
        async with sandbox.tree(seed=seed) as tree:
            yield SandboxRunner(tree)

    async with AsyncExitStack() as stack:
        reason: str | None = None
        loading: asyncio.Task[TorchModels] | None = None
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(_start_sandbox(stack, sandbox, report))
                starting.create_task(_start_equality(stack, equality, report))
                loading = starting.create_task(_start_models(stack, folders, settings, report))
        except* (EngineError, SandboxError, EqualityUnavailable) as failures:
            reason = str(failures.exceptions[0])
        if reason is not None:
            raise PartsUnavailable(reason)  # inside `except*` it would come out in a group again
        assert loading is not None
        models = loading.result()
        yield ServingParts(
            policy=models.policy,
            greedy_policy=models.greedy_policy,
            scorer=models.scorer,
            equality=equality,
            open_runner=open_runner,
            prompt_tokens=models.prompt_tokens,
            max_prompt_tokens=models.max_prompt_tokens,
            models=Models(policy=models.policy.model_id, ppm=models.scorer.model_id),
            faults=models.faults,
        )


async def _start_models(
    stack: AsyncExitStack, folders: ModelFolders, settings: Settings, report: Callable[[Part], None]
) -> "TorchModels":
    models = await asyncio.to_thread(_load_models, folders, settings)
    for engine in (models.policy, models.greedy_policy, models.scorer):
        await stack.enter_async_context(engine)
    report(Part.POLICY)
    report(Part.PPM)
    return models


def _load_models(folders: ModelFolders, settings: Settings) -> "TorchModels":
    # torch takes seconds to import: only here, in a thread, while the other parts start.
    from server.torch_models import load_models  # noqa: PLC0415

    return load_models(folders, settings)


async def _start_sandbox(stack: AsyncExitStack, sandbox: Sandbox, report: Callable[[Part], None]) -> None:
    await stack.enter_async_context(sandbox)
    report(Part.SANDBOX)


async def _start_equality(stack: AsyncExitStack, equality: EqualityPool, report: Callable[[Part], None]) -> None:
    await stack.enter_async_context(equality)
    await equality.warm_up()
    report(Part.EQUALITY)
