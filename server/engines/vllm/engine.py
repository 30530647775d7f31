# pyright: basic, reportMissingImports=false
"""One vLLM engine: an `AsyncLLM` that is started, watched, started again when it dies, and ended with its processes.

What the policy's and the PPM's engine have in common. vLLM is imported when the first one starts, on its thread.
"""

import asyncio
import contextlib
import gc
import importlib
import threading
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Self, TypeVar

from server.engines.errors import EngineError, EngineFailed
from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName
from server.engines.rendering import PathTokens
from server.engines.stats import EngineCounters, EngineStats
from server.engines.vllm.arguments import Label, VllmOptions, engine_arguments, engine_variables, environment
from server.engines.vllm.supervisor import Supervisor
from server.engines.vllm.watchdog import Watchdog, kill_marked

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_ANSWERING_S = 60.0
"""For a started engine to answer its first request; it takes 3 s on two busy cores."""
_STOPPING_S = 2.0
"""For its processes to end by themselves before they are killed: they have nothing to save."""

OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True)
class _Running:
    """An `AsyncLLM` under its supervisor."""

    llm: "AsyncLLM"
    loop: asyncio.AbstractEventLoop
    mark: str

    @property
    def is_dead(self) -> bool:
        return self.llm.errored

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop has nobody waiting in it
            self.loop.call_soon_threadsafe(self._release)
        self.llm.shutdown(timeout=_STOPPING_S)
        kill_marked(self.mark)

    def _release(self) -> None:
        """Let go of whoever waits, and of the task that would take the end for a failure and log it as one."""
        from vllm.v1.engine.exceptions import EngineDeadError

        self.llm.output_processor.propagate_error(EngineDeadError())
        if self.llm.output_handler is not None:
            self.llm.output_handler.cancel()


class VllmEngine:
    """Starts on entering; leaving ends its processes. Bound to the event loop in which it was entered."""

    def __init__(self, model: ModelFolder, name: EngineName, options: VllmOptions, *, turn: threading.Lock) -> None:
        """`turn` is taken while starting: engines of one machine measure its memory, and must not do so at once."""
        self.model_id = model.model_id
        self.path_tokens = PathTokens(model.tokenizer)
        self.context_tokens = model.context_tokens
        self.model = model
        self.counters = EngineCounters()
        self._name = name
        self._options = options
        self._turn = turn
        self._mark = f"{name}-{uuid.uuid4()}"
        self._supervisor = Supervisor(self._start, name=name, interrupt=partial(kill_marked, self._mark))
        self._in_flight = 0
        self._watchdog = ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self._supervisor.fault

    @property
    def stats(self) -> EngineStats:
        if not self._in_flight:  # vLLM only tells while it works, and would stay at the levels before an abort
            self.counters.running = self.counters.waiting = 0
        return self.counters.snapshot()

    @property
    def restarts(self) -> int:
        return self._supervisor.restarts

    @property
    def mark(self) -> str:
        """What its processes are known by: see `server.engines.vllm.watchdog`."""
        return self._mark

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._import)
        self._watchdog.enter_context(Watchdog(self._mark))
        try:
            await self._supervisor.open()
        except BaseException:
            await asyncio.to_thread(self._watchdog.close)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._supervisor.close()
        finally:
            await asyncio.to_thread(self._watchdog.close)
            # vLLM's object is part of a cycle, and complains when it is only collected as the interpreter goes down.
            await asyncio.to_thread(gc.collect)

    async def run(self, ask: "Callable[[AsyncLLM, Label], AsyncGenerator[OutputT]]") -> OutputT:
        """The last output of one request, made by `ask` from the engine and a label. Leaving early aborts it.

        Raises `EngineFailed` where the engine died meanwhile.
        """
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        llm = self._supervisor.current.llm
        output: OutputT | None = None
        try:
            async with aclosing(ask(llm, self._options.label())) as outputs:
                async for latest in outputs:
                    output = latest
        except (EngineDeadError, EngineGenerateError) as error:
            self._supervisor.look()
            died = EngineFailed(f"the {self._name}'s engine died while it worked on the request")
            raise self._supervisor.refusal or died from error
        assert output is not None, "vLLM ended a request without an output"
        return output

    @asynccontextmanager
    async def counted(self) -> AsyncGenerator[None]:
        """Around one call: counts it, and whether its caller left early."""
        self.counters.requests += 1
        self._in_flight += 1
        try:
            yield
        except asyncio.CancelledError:
            self.counters.aborted += 1
            raise
        finally:
            self._in_flight -= 1

    async def prove(self, llm: "AsyncLLM") -> None:
        """A first small request, which also makes the slow first pass: an engine that answers it can serve."""
        raise NotImplementedError

    def _import(self) -> None:
        """Import vLLM by itself: it keeps failed imports of its own, and with them the frames of all callers, and in
        these, were they the ones that start an engine, the engine for good."""
        with environment(engine_variables(self._mark, self._options)):
            try:
                importlib.import_module("vllm.v1.engine.async_llm")
            except ImportError as error:
                raise EngineError(f"vLLM cannot be imported ({error}); see the README on installing it") from error

    def _start(self) -> _Running:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        from server.engines.vllm.stats import stat_logger

        # Python's own helper process is the whole server's: started in there, it would carry this engine's mark.
        resource_tracker.ensure_running()
        arguments: Any = engine_arguments(self.model, self._name, self._options, on_cpu=current_platform.is_cpu())
        with self._turn, environment(engine_variables(self._mark, self._options)):
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=[stat_logger(self.counters)])
        assert self._loop is not None
        running = _Running(llm, self._loop, self._mark)
        try:
            # An engine that dies over its very first question never answers it: hence the limit.
            asyncio.run_coroutine_threadsafe(self.prove(llm), self._loop).result(_ANSWERING_S)
        except BaseException:
            running.stop()
            raise
        return running
