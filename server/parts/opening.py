"""Opening: starts engines, sandbox and answer checker of one server at the same time, and closes them at its end.

Sandbox and answer checker are restarted in the background when they end; a call that needs one restarts it too. A part
that cannot be started is reported as faulty until it starts, so that `/readyz` shows it before a search fails.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from sandbox import Level, Outcome, Sandbox, SandboxError, SandboxUnavailable
from search import Calibration, CodeRunner, Path, Verdict
from server.answers.equality import EqualityPool, EqualityUnavailable
from server.bundle.folders import ModelFolders
from server.engines.errors import EngineError
from server.engines.health import HealthWatch, watching
from server.engines.protocols import Engines
from server.parts.runner import STEP_LIMITS, SandboxRunner
from server.parts.serving import ModelIds, Part, PartsUnavailable, ServingParts
from server.settings.settings import Settings


@asynccontextmanager
async def open_local_parts(
    folders: ModelFolders, settings: Settings, report: Callable[[Part], None]
) -> AsyncGenerator[ServingParts]:
    """See `server.parts.serving.OpenParts`."""
    sandbox = make_sandbox(settings)
    equality = EqualityPool()

    async with AsyncExitStack() as stack:
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(_start_sandbox(stack, sandbox, report))
                starting.create_task(_start_equality(stack, equality, report))
                making = starting.create_task(_start_engines(stack, folders, settings, report))
        except BaseExceptionGroup as failures:
            expected, others = failures.split((EngineError, SandboxError, EqualityUnavailable))
            if expected is None or others is not None:
                raise
            raise PartsUnavailable(str(expected.exceptions[0])) from None
        engines, calibration = making.result()
        runners, checker = RestartingSandbox(sandbox), RestartingEquality(equality)
        watches = (runners.watch, checker.watch)
        await stack.enter_async_context(watching(watches))

        yield ServingParts(
            policy=engines.policy.policy,
            scorer=engines.ppm,
            equality=checker,
            open_runner=runners.open_runner,
            prompt_tokens=engines.policy.prompt_tokens,
            max_prompt_tokens=engines.policy.context_tokens - settings.max_step_tokens,
            models=ModelIds(policy=engines.policy.model_id, ppm=engines.ppm.model_id),
            environment=_environment(engines, sandbox, settings),
            calibration=calibration,
            faults=lambda: _faults(engines, watches),
            engine_stats=engines.stats,
            sandbox_status=lambda: sandbox.status,
            equality_restarts=lambda: equality.restarts,
        )


class RestartingSandbox:
    """Runs the code of searches."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.watch = HealthWatch(
            Part.SANDBOX,
            is_up=lambda: sandbox.zygote_pid is not None,
            start=self._run_a_step,
            restarts=lambda: sandbox.counters.zygote_restarts,
            unavailable=SandboxUnavailable,
        )

    @asynccontextmanager
    async def open_runner(self, seed: int) -> AsyncGenerator[CodeRunner]:
        """A runner for one search. Leaving ends all its processes."""
        with self.watch.calling():
            async with self._sandbox.tree(seed=seed) as tree:
                yield SandboxRunner(tree)

    async def _run_a_step(self) -> None:
        """A sandbox whose process lives may still lack the memory to run steps."""
        async with self._sandbox.tree() as tree:
            result = await tree.run(None, "1")
        if result.outcome is not Outcome.OK:
            raise SandboxUnavailable(f"a step that does nothing ended with {result.outcome}: {result.error}")


class RestartingEquality:
    """Compares answers; see `AnswerEquality`."""

    def __init__(self, pool: EqualityPool) -> None:
        self._pool = pool
        self.watch = HealthWatch(
            Part.EQUALITY,
            is_up=lambda: pool.is_ready,
            start=pool.warm_up,
            restarts=lambda: pool.restarts,
            unavailable=EqualityUnavailable,
        )

    async def same(self, a: str, b: str) -> Verdict:
        """See `EqualityPool.same`."""
        with self.watch.calling():
            return await self._pool.same(a, b)


def make_sandbox(settings: Settings) -> Sandbox:
    """The server's sandbox, not yet open."""
    return Sandbox(limits=STEP_LIMITS, workers=settings.sandbox_workers, min_level=Level(settings.sandbox_min_level))


class _Models(NamedTuple):
    engines: Engines
    calibration: Calibration | None


async def _start_engines(
    stack: AsyncExitStack, folders: ModelFolders, settings: Settings, report: Callable[[Part], None]
) -> _Models:
    engines = await asyncio.to_thread(_make_engines, folders, settings)
    from server.engines.calibration import read_calibration  # noqa: PLC0415  # as below
    from server.engines.self_check import check_scores  # noqa: PLC0415

    await stack.enter_async_context(engines.policy)
    engines.check_room(settings.max_step_tokens)
    report(Part.POLICY)
    await stack.enter_async_context(engines.ppm)
    await check_scores(engines.ppm, folders.ppm)
    calibration = read_calibration(folders.ppm, policy_id=engines.policy.model_id, ppm_id=engines.ppm.model_id)
    report(Part.PPM)
    return _Models(engines, calibration)


def _make_engines(folders: ModelFolders, settings: Settings) -> Engines:
    # torch and vLLM take seconds to import. A thread imports them here, while the other parts start.
    from server.engines.choice import make_engines  # noqa: PLC0415
    from server.parts.engine_options import engine_options  # noqa: PLC0415

    return make_engines(folders, engine_options(settings))


def _environment(engines: Engines, sandbox: Sandbox, settings: Settings) -> Mapping[str, str]:
    """The prompt is hashed as tokens: with the few-shot examples and the chat template, where the policy has them."""
    prompt = engines.policy.step_format.token_ids(Path(problem=""))
    return {
        "prompt": hashlib.sha256(repr(prompt).encode()).hexdigest(),
        "policy engine": type(engines.policy.completer).__qualname__,
        "ppm engine": f"{type(engines.ppm).__qualname__} {settings.vllm_ppm_dtype}",
        "sandbox": f"{STEP_LIMITS} {sandbox.status.level}",
    }


def _faults(engines: Engines, watches: Sequence[HealthWatch]) -> Mapping[Part, str]:
    faults = {Part.POLICY: engines.policy.fault, Part.PPM: engines.ppm.fault}
    faults |= {Part(watch.part): watch.fault for watch in watches}
    return {part: fault for part, fault in faults.items() if fault is not None}


async def _start_sandbox(stack: AsyncExitStack, sandbox: Sandbox, report: Callable[[Part], None]) -> None:
    await stack.enter_async_context(sandbox)
    report(Part.SANDBOX)


async def _start_equality(stack: AsyncExitStack, equality: EqualityPool, report: Callable[[Part], None]) -> None:
    await stack.enter_async_context(equality)
    await equality.warm_up()
    report(Part.EQUALITY)
