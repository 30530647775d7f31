# pyright: basic, reportMissingImports=false
"""One vLLM engine: an `AsyncLLM` that is started, watched, started again when it dies, and ended with its processes.

It is the common base of the policy's and the PPM's engine. vLLM is imported when the first one starts, on a thread,
since importing and starting take seconds to minutes.
"""

import asyncio
import gc
import importlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Self, TypeVar

from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.health import HealthWatch, watching
from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName, EngineStats
from server.engines.vllm.arguments import Label, VllmOptions, engine_arguments, engine_variables, environment
from server.engines.vllm.watchdog import kill_marked, watchdog

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.loggers import PrometheusStatLogger
    from vllm.v1.metrics.stats import SchedulerStats

_LOOK_S = 0.5
"""Interval of checks of an idle engine. A request that meets a dead engine causes a check at once."""
_DELAYS_S = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Delays before the first restart, the second and so on."""
_ANSWERING_S = 60.0
"""Time for a started engine to answer its first request; it takes 3 s on two busy cores."""
_STOPPING_S = 2.0
"""Time for its processes to end by themselves before they are killed. They have nothing to save."""

OutputT = TypeVar("OutputT")


class VllmEngine(ABC):
    """Starts on entering; leaving ends its processes. Bound to the event loop in which it was entered."""

    def __init__(self, model: ModelFolder, name: EngineName, options: VllmOptions, *, turn: asyncio.Lock) -> None:
        """`turn` is taken while starting: engines of one machine measure its memory, and must not do so at once."""
        self.model_id = model.model_id
        self.context_tokens = model.context_tokens
        self.mark = f"{name}-{uuid.uuid4()}"
        """Identifies its processes: see `server.engines.vllm.watchdog`."""
        self.restarts = 0
        """Starts after the first one."""
        self.counters = EngineStats()
        self._model = model
        self._name = name
        self._options = options
        self._turn = turn
        self._llm: AsyncLLM | None = None
        self._is_proven = False
        self._closed: str | None = "is not open"
        self._stack = AsyncExitStack()
        self._watch = HealthWatch(
            f"the {name}'s engine",
            is_up=self._is_up,
            start=self._start_again,
            restarts=lambda: self.restarts,
            unavailable=EngineFailed,
            slow=f"the {name}'s engine died and is being started again",
            look_s=_LOOK_S,
            patience_s=0.0,
            start_limit_s=None,
            delays_s=_DELAYS_S,
        )

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`. Being closed is no fault; a restart that waits for its delay is."""
        if self._closed is not None or self._is_up():
            return self._watch.fault
        return self._watch.fault or str(self._refusal())

    @property
    def stats(self) -> EngineStats:
        if not self.counters.in_flight:  # vLLM reports only while it works: the levels before an abort would stay
            self.counters.running = self.counters.waiting = 0
        return self.counters.snapshot()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._import)
        async with AsyncExitStack() as starting:
            # vLLM's object is part of a cycle, and complains when it is only collected as the interpreter goes down.
            starting.push_async_callback(asyncio.to_thread, gc.collect)
            watching_processes = ExitStack()
            watching_processes.enter_context(watchdog(self.mark))
            starting.push_async_callback(asyncio.to_thread, watching_processes.close)
            starting.push_async_callback(self._end)
            await self._start()
            await starting.enter_async_context(watching([self._watch]))
            self._stack = starting.pop_all()
        self._closed = None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = "was closed"
        await self._stack.aclose()

    async def run(self, ask: "Callable[[AsyncLLM, Label], AsyncGenerator[OutputT]]") -> OutputT:
        """The last output of one request, made by `ask` from the engine and a label. Leaving early aborts it.

        Raises `EngineFailed` where the engine is dead, dies meanwhile, or lives on and fails at this request only;
        `EngineClosed` where it is closed.
        """
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        llm = self._llm
        if llm is None or not self._is_proven or self._closed is not None:
            raise self._refusal()
        output: OutputT | None = None
        try:
            async with aclosing(ask(llm, self._options.label())) as outputs:
                async for latest in outputs:
                    output = latest
        except (EngineDeadError, EngineGenerateError) as error:
            if not llm.errored:
                raise self._refusal("failed at the request, but goes on") from error
            with self._watch.calling():
                raise self._refusal("died while it worked on the request") from error
        assert output is not None, "vLLM ended a request without an output"
        return output

    @abstractmethod
    def arguments(self) -> Mapping[str, object]:
        """Keyword arguments of vLLM's `AsyncEngineArgs` that this kind of model wants. vLLM is imported already."""

    @abstractmethod
    async def prove(self, llm: "AsyncLLM") -> None:
        """A first small request, which also makes the slow first pass: an engine that answers it can serve."""

    def _refusal(self, failure: str = "died and is being started again") -> EngineError:
        if self._closed is not None:
            return EngineClosed(f"the {self._name}'s engine {self._closed}")
        return EngineFailed(f"the {self._name}'s engine {failure}")

    def _import(self) -> None:
        """Import vLLM by itself: it keeps failed imports of its own, and with them the frames of all callers, and in
        these, were they the ones that start an engine, the engine for good."""
        with environment(engine_variables(self.mark, self._options)):
            try:
                importlib.import_module("vllm.v1.engine.async_llm")
            except ImportError as error:
                raise EngineError(f"vLLM cannot be imported ({error}); see the README on installing it") from error

    def _is_up(self) -> bool:
        return self._llm is not None and self._is_proven and not self._llm.errored

    async def _start_again(self) -> None:
        if not self._is_up():
            await self._end()
            await self._start()
            self.restarts += 1

    async def _start(self) -> None:
        try:
            async with self._turn:
                self._llm = await self._constructed()
            # An engine that dies over its very first request never answers it: hence the limit.
            async with asyncio.timeout(_ANSWERING_S):
                await self.prove(self._llm)
            self._is_proven = True
        except Exception as error:
            await self._end()
            reason = f"{type(error).__name__}: {error}"
            raise EngineFailed(f"the {self._name}'s engine could not be started: {reason}") from error

    async def _constructed(self) -> "AsyncLLM":
        starting = asyncio.get_running_loop().run_in_executor(None, self._construct)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: end the processes that it waits for, until it gives up.
            while not starting.done():
                await asyncio.to_thread(kill_marked, self.mark)
                await asyncio.wait([starting], timeout=_LOOK_S)
            if starting.exception() is None:
                self._llm = starting.result()
                await self._end()
            raise

    def _construct(self) -> "AsyncLLM":
        """Blocks until the engine has loaded its model. Not on the event loop's thread."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        # Python's own helper process is the whole server's: started in there, it would carry this engine's mark.
        resource_tracker.ensure_running()
        on_cpu = current_platform.is_cpu()
        common = engine_arguments(self._model, self._name, self._options, on_cpu=on_cpu)
        arguments: Any = {**common, **self.arguments()}
        with environment(engine_variables(self.mark, self._options, on_cpu=on_cpu)):
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=[stat_logger(self.counters)])

    async def _end(self) -> None:
        """End the processes, dead or alive; requests in flight are refused."""
        llm, self._llm, self._is_proven = self._llm, None, False
        if llm is None:
            return
        from vllm.v1.engine.exceptions import EngineDeadError

        # The output handler would take the end for a failure and log it as one.
        llm.output_processor.propagate_error(EngineDeadError())
        if llm.output_handler is not None:
            llm.output_handler.cancel()
        await asyncio.to_thread(llm.shutdown, timeout=_STOPPING_S)
        await asyncio.to_thread(kill_marked, self.mark)


def stat_logger(counters: EngineStats) -> "type[PrometheusStatLogger]":
    """A logger class that adds up into `counters`, on the event loop's thread.

    vLLM's own loggers share one registry, from which a second engine in the process removes the first one's series.
    This one poses as vLLM's Prometheus logger and does nothing of what that does: only then is no real one added.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class CountingLogger(PrometheusStatLogger):
        def __init__(self, vllm_config: object, engine_indexes: list[int] | None = None) -> None:
            pass

        def record(self, scheduler_stats: "SchedulerStats | None", *_: object, **__: object) -> None:
            if scheduler_stats is not None:
                _add(counters, scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, *_: object, **__: object) -> None:
            pass

        def record_admission_rejection(self, reason: str) -> None:
            pass

    return CountingLogger


def _add(counters: EngineStats, stats: "SchedulerStats") -> None:
    """Count one pass of the engine. Prompts give a token each as soon as they are read, so both kinds of row count."""
    counters.running = stats.num_running_reqs
    counters.waiting = stats.num_waiting_reqs + stats.num_skipped_waiting_reqs
    counters.tokens_reused += stats.prefix_cache_stats.hits
    details = stats.iteration_details
    if details is not None and not details.is_dummy:
        rows = details.num_ctx_requests + details.num_generation_requests
        counters.forward_passes += 1
        counters.observe_batch(rows)
        counters.tokens_generated += rows
        counters.tokens_encoded += details.num_ctx_tokens
