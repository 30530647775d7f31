"""Parts: opens the real parts of a server for the benchmark, and measures their CPU time."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from benchmarks.fill.processor_time import Clock, ProcessorTime, TimedComputeThread, clock_of, shares
from sandbox import Sandbox
from search import CodeRunner, Policy
from server.answers.equality import EqualityPool
from server.bundle.folders import ModelFolders
from server.engines.choice import EngineOptions, make_engines
from server.engines.policy import PolicyEngine
from server.engines.protocols import Engines, Sampling
from server.engines.torch.runtime import serving_runtime
from server.engines.vllm.watchdog import marked
from server.parts.engine_options import engine_options
from server.parts.runner import STEP_LIMITS, SandboxRunner
from server.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenParts:
    """The parts that a server with default settings uses."""

    engines: Engines
    sampling: Sampling
    sandbox: Sandbox
    equality: EqualityPool
    processor_time: ProcessorTime

    def policy(self, temperature: float) -> Policy:
        """A view of the policy with this sampling."""
        return self.engines.policy.policy(replace(self.sampling, temperature=temperature))

    @asynccontextmanager
    async def open_runner(self, seed: int) -> AsyncGenerator[CodeRunner]:
        """A runner for one search."""
        async with self.sandbox.tree(seed=seed) as tree:
            yield SandboxRunner(tree)


@asynccontextmanager
async def open_parts(engine: str, folders: ModelFolders, settings: Settings, meter: Clock) -> AsyncGenerator[OpenParts]:
    """`engine` is torch or vllm; `meter` measures the CPU time of everything that is started in here."""
    async with AsyncExitStack() as stack:
        equality = await stack.enter_async_context(EqualityPool())
        await equality.warm_up()
        if engine == "torch":
            runtime = serving_runtime(lambda threads: TimedComputeThread(threads=threads))
            engines = make_engines(folders, EngineOptions(backend="torch", torch=runtime))
            clocks = shares(runtime.policy_threads, (runtime.compute,))
        else:
            from server.engines.vllm.engine import VllmEngine  # noqa: PLC0415  # may not be installed

            engines = make_engines(folders, replace(engine_options(settings), backend="vllm"))
            assert isinstance(engines.policy, PolicyEngine)
            assert isinstance(engines.policy.completer, VllmEngine)
            assert isinstance(engines.ppm, VllmEngine)
            marks = engines.policy.completer.mark, engines.ppm.mark
            clocks = clock_of(lambda: marked(marks[0])), clock_of(lambda: marked(marks[1]))
        await stack.enter_async_context(engines.policy)
        await stack.enter_async_context(engines.ppm)
        sandbox = await stack.enter_async_context(Sandbox(limits=STEP_LIMITS, workers=settings.sandbox_workers))
        sampling = Sampling(top_p=settings.top_p, max_step_tokens=settings.max_step_tokens)
        yield OpenParts(
            engines=engines,
            sampling=sampling,
            sandbox=sandbox,
            equality=equality,
            processor_time=ProcessorTime(
                meter=meter,
                policy=clocks[0],
                ppm=clocks[1],
                answers=clock_of(lambda: equality.process_ids),
            ),
        )
