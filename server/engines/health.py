"""Health watch: looks whether a part works, starts it again where it does not, and keeps the fault meanwhile.

For engine processes, remote servers, the sandbox and the answer checker alike. Example: a sandbox that is back within
some seconds shows no fault, because its callers only waited. One that cannot be started shows one until it can.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a part that works is looked at; a call that fails makes us look at once."""
PATIENCE_S = 5.0
"""A start takes about a second, more on a busy machine; one that takes longer than this is a fault."""
START_LIMIT_S = 120.0
"""Parts give up a start of theirs after a minute, and may try twice; what takes longer than this hangs."""
STEADY_S = 60.0
"""A part that has been up for so long has recovered: its next end counts as the first."""
DELAYS_S = (0.0, 1.0, 2.0, 5.0, 15.0)
"""Before the first start, the second and so on: a part that ends again and again does not keep the machine busy."""


class HealthWatch:
    """Watches one part."""

    def __init__(  # noqa: PLR0913  # times are for tests, and for parts that start slowly
        self,
        part: str,
        *,
        is_up: Callable[[], bool],
        start: Callable[[], Awaitable[object]],
        restarts: Callable[[], int],
        unavailable: type[Exception],
        slow: str = "it ended, and starting it again takes long",
        look_s: float = LOOK_S,
        patience_s: float = PATIENCE_S,
        start_limit_s: float | None = START_LIMIT_S,
        steady_s: float = STEADY_S,
        delays_s: Sequence[float] = DELAYS_S,
    ) -> None:
        """
        Args:
            part: its name in the log.
            is_up: asked often, must not wait.
            start: returns only where the part works, and may do nothing where it does.
            restarts: starts after the first one, whoever made them.
            unavailable: what calls and `start` raise when the part does not work.
            slow: the fault while a start takes longer than `patience_s`.
            start_limit_s: after this a start is cancelled and made anew; None to wait for as long as it takes.
        """
        self.part = part
        self._is_up = is_up
        self._start = start
        self._restarts = restarts
        self._unavailable = unavailable
        self._slow = slow
        self._look_s = look_s
        self._patience_s = patience_s
        self._start_limit_s = start_limit_s
        self._steady_s = steady_s
        self._delays_s = delays_s
        self._fault: str | None = None
        self._alarm = asyncio.Event()

    @property
    def fault(self) -> str | None:
        """What is wrong, in a sentence for the operator; None while all is well."""
        return self._fault

    @contextmanager
    def calling(self) -> Generator[None]:
        """Around a call of the part: one that raises `unavailable` is a fault, and makes us start the part again."""
        try:
            yield
        except self._unavailable as error:
            self._fail(str(error))
            self._alarm.set()
            raise

    def recovered(self) -> None:
        """The part works: it was started, or it answered a call."""
        if self._fault is not None:
            logger.info("%s works again", self.part)
        self._fault = None

    async def run(self) -> None:
        """Until it is cancelled."""
        now = asyncio.get_running_loop().time
        setbacks, restarts, trouble_s = 0, self._restarts(), -math.inf
        while True:
            self._alarm.clear()
            if self._is_well():
                if self._restarts() != restarts:  # by us, or by a call that needed it
                    restarts, trouble_s = self._restarts(), now()
                    logger.warning("%s ended and was started again; restarts so far: %d", self.part, restarts)
                if now() - trouble_s >= self._steady_s:
                    setbacks = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._look_s):
                        await self._alarm.wait()
                continue
            await asyncio.sleep(self._delays_s[min(setbacks, len(self._delays_s) - 1)])
            if not self._is_well():
                await self._start_again()
            setbacks += 1
            trouble_s = now()

    def _is_well(self) -> bool:
        return self._fault is None and self._is_up()

    async def _start_again(self) -> None:
        late = asyncio.get_running_loop().call_later(self._patience_s, self._take_long)
        limit = asyncio.timeout(self._start_limit_s)
        try:
            async with limit:
                await self._start()
        except self._unavailable as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  # the boundary: whatever a start raises, there will be another
            if not limit.expired():
                self._fail(f"{type(error).__name__}: {error}")
            elif not self._is_up():  # as below
                self._fail(f"it ended, and starting it again took longer than {self._start_limit_s:.0f} s")
        else:
            self.recovered()
        finally:
            late.cancel()

    def _take_long(self) -> None:
        if not self._is_up():  # else it only waits for its turn among others
            self._fail(self._slow)

    def _fail(self, fault: str) -> None:
        if fault != self._fault:
            logger.error("%s does not work: %s", self.part, fault)
        self._fault = fault


@asynccontextmanager
async def watching(watches: Sequence[HealthWatch]) -> AsyncGenerator[None]:
    """All of them watch their parts in here."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch.run()) for watch in watches]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
