"""Health watch: checks whether a part works, restarts it if not, and reports the fault meanwhile.

Used for engine processes, remote servers, the sandbox and the answer checker. Example: a sandbox that is back within
some seconds shows no fault, because its callers only waited. One that cannot be started shows one until it can.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class HealthWatch:
    """Watches one part."""

    part: str
    """Its name in the log."""
    _: KW_ONLY
    is_up: Callable[[], bool]
    """Called often, so it must not wait."""
    start: Callable[[], Awaitable[object]]
    """Returns only if the part works. It may do nothing if the part works already."""
    unavailable: type[Exception]
    """What calls and `start` raise when the part does not work."""
    restarts: Callable[[], int] = lambda: 0
    """Starts after the first one, including those made by calls."""
    slow: str = "it ended, and starting it again takes long"
    """The fault while a start takes longer than `patience_s`."""
    look_s: float = 1.0
    """Interval of checks of a working part. A call that fails causes a check at once."""
    patience_s: float = 5.0
    """A start takes about a second, more on a busy machine; one that takes longer than this is a fault."""
    start_limit_s: float | None = 120.0
    """A start that takes longer is cancelled and repeated; None waits without a limit. Parts give up a start
    of theirs after a minute, and may try twice."""
    steady_s: float = 60.0
    """A part that has been up for so long has recovered: its next end counts as the first."""
    delays_s: Sequence[float] = (0.0, 1.0, 2.0, 5.0, 15.0)
    """Delays before the first start, the second and so on, so that a part that keeps ending causes little load."""
    fault: str | None = field(default=None, init=False)
    """The fault in a sentence for the operator; None while the part works."""
    _alarm: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @contextmanager
    def calling(self) -> Generator[None]:
        """Wraps a call of the part. A call that raises `unavailable` sets the fault and causes a restart."""
        try:
            yield
        except self.unavailable as error:
            self._fail(str(error))
            self._alarm.set()
            raise

    def recovered(self) -> None:
        """The part works: it was started, or it answered a call."""
        if self.fault is not None:
            logger.info("%s works again", self.part)
        self.fault = None

    async def run(self) -> None:
        """Watch the part until cancelled."""
        now = asyncio.get_running_loop().time
        setbacks, restarts, trouble_s = 0, self.restarts(), -math.inf
        while True:
            self._alarm.clear()
            if self._is_well():
                if self.restarts() != restarts:  # by us, or by a call that needed it
                    restarts, trouble_s = self.restarts(), now()
                    logger.warning("%s ended and was started again; restarts so far: %d", self.part, restarts)
                if now() - trouble_s >= self.steady_s:
                    setbacks = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.look_s):
                        await self._alarm.wait()
                continue
            await asyncio.sleep(self.delays_s[min(setbacks, len(self.delays_s) - 1)])
            if not self._is_well():
                await self._start_again()
            setbacks += 1
            trouble_s = now()

    def _is_well(self) -> bool:
        return self.fault is None and self.is_up()

    async def _start_again(self) -> None:
        late = asyncio.get_running_loop().call_later(self.patience_s, self._take_long)
        limit = asyncio.timeout(self.start_limit_s)
        try:
            async with limit:
                await self.start()
        except self.unavailable as error:
            self._fail(str(error), error)
        except Exception as error:  # noqa: BLE001  # the boundary: any failed start is tried again
            if not limit.expired():
                self._fail(f"{type(error).__name__}: {error}", error)
            elif not self.is_up():  # as below
                self._fail(f"it ended, and starting it again took longer than {self.start_limit_s:.0f} s", error)
        else:
            self.recovered()
        finally:
            late.cancel()

    def _take_long(self) -> None:
        if not self.is_up():  # otherwise it only waits for its turn
            self._fail(self.slow)

    def _fail(self, fault: str, error: Exception | None = None) -> None:
        """`error`: of a start that failed; its traceback is logged."""
        if fault != self.fault:
            logger.error("%s does not work: %s", self.part, fault, exc_info=error)
        self.fault = fault


@asynccontextmanager
async def watching(watches: Sequence[HealthWatch]) -> AsyncGenerator[None]:
    """The given watches run while this context is open."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch.run()) for watch in watches]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
