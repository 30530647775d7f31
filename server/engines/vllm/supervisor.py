"""The supervisor: starts an engine's processes, sees when they die, and starts them again.

All of it happens on a thread of its own, since starting takes seconds to minutes and blocks. Callers read `current`;
while nothing works it raises. Knows nothing of models.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Generic, Protocol, TypeVar

from server.engines.errors import EngineClosed, EngineError, EngineFailed

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often an idle engine is looked at; a request that meets a dead one makes us look at once."""
_DELAYS_S = (0.0, 0.0, 1.0, 5.0, 15.0, 60.0)
"""Before the first start, before the first restart, the second and so on: one death is answered at once, and an engine
that dies again and again does not keep the machine busy."""
_HEALTHY_S = 60.0
"""An engine that lived so long begins the count anew."""


class Running(Protocol):
    """What is supervised."""

    @property
    def is_dead(self) -> bool:
        """Whether it has ended by itself. Asked on the supervisor's thread."""
        ...

    def stop(self) -> None:
        """End it, dead or alive; blocks until its processes are gone."""
        ...


RunningT = TypeVar("RunningT", bound=Running)


class Supervisor(Generic[RunningT]):
    """Keeps one engine running between `open` and `close`."""

    def __init__(
        self,
        start: Callable[[], RunningT],
        *,
        name: str,
        interrupt: Callable[[], object] = lambda: None,
        delays_s: Sequence[float] = _DELAYS_S,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`start` blocks until the engine can serve, and raises where it cannot; `interrupt` makes it give up."""
        self._start = start
        self._name = name
        self._interrupt = interrupt
        self._delays_s = delays_s
        self._now = now
        self._current: RunningT | None = None
        self._refusal: EngineError = EngineClosed(f"the {name}'s engine is not open")
        self._is_starting = False
        self._closing = threading.Event()
        self._look = threading.Event()
        self._thread: threading.Thread | None = None
        self.restarts = 0
        """Starts after the first one, good or not."""

    @property
    def current(self) -> RunningT:
        """The running engine. Raises `EngineFailed` while there is none, `EngineClosed` outside its life."""
        running, refusal = self._current, self._refusal
        if running is None:
            raise type(refusal)(*refusal.args)
        return running

    @property
    def refusal(self) -> EngineError | None:
        """Why there is no running engine; None where there is one."""
        return None if self._current is not None else self._refusal

    @property
    def fault(self) -> str | None:
        """Why it cannot serve; None while it can, and outside its life."""
        if self._current is not None or isinstance(self._refusal, EngineClosed):
            return None
        return str(self._refusal)

    def look(self) -> None:
        """Somebody met a dead engine: look now."""
        self._look.set()

    async def open(self) -> None:
        """Start the engine. Raises what the start raises, and is closed again then."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()

        def settle(error: EngineError | None) -> None:
            def in_loop() -> None:
                if not started.done():
                    started.set_result(None) if error is None else started.set_exception(error)

            with contextlib.suppress(RuntimeError):  # a loop that closed meanwhile
                loop.call_soon_threadsafe(in_loop)

        self._thread = threading.Thread(target=self._run, args=(settle,), name=f"{self._name}-supervisor", daemon=True)
        self._thread.start()
        try:
            await started
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the engine and the thread; a start that is under way is interrupted."""
        self._closing.set()
        self._look.set()
        thread = self._thread
        while thread is not None and thread.is_alive():
            if self._is_starting:
                await asyncio.to_thread(self._interrupt)
            await asyncio.to_thread(thread.join, _LOOK_S)

    def _run(self, settle: Callable[[EngineError | None], None]) -> None:
        setbacks, is_first = 0, True
        while not self._closing.wait(self._delays_s[min(setbacks, len(self._delays_s) - 1)]):
            begun_s = self._now()
            self.restarts += not is_first
            try:
                running = self._begin()
            except Exception as error:  # The boundary: whatever a start raises must reach whoever waits for it.
                self._refusal = error if isinstance(error, EngineError) else EngineFailed(self._story(error))
                settle(self._refusal)
                if is_first:
                    break
                logger.exception("the %s's engine could not be started again", self._name)
            else:
                self._current = running
                settle(None)
                self._follow(running)
                setbacks = 0 if self._now() - begun_s > _HEALTHY_S else setbacks
            setbacks += 1
            is_first = False
        if self._closing.is_set():
            self._refusal = EngineClosed(f"the {self._name}'s engine was closed")

    def _begin(self) -> RunningT:
        self._is_starting = True
        try:
            return self._start()
        finally:
            self._is_starting = False

    def _follow(self, running: RunningT) -> None:
        """Until it dies or is to end; in the end it is neither current nor running."""
        while not self._closing.is_set():
            if running.is_dead:
                self._refusal = EngineFailed(f"the {self._name}'s engine died and is being started again")
                logger.error("the %s's engine died; starting it again", self._name)
                break
            self._look.wait(_LOOK_S)
            self._look.clear()
        else:
            self._refusal = EngineClosed(f"the {self._name}'s engine was closed")
        self._current = None
        running.stop()

    def _story(self, error: Exception) -> str:
        return f"the {self._name}'s engine could not be started: {type(error).__name__}: {error}"
