"""Mending: starts a part that has broken again, until that succeeds, and says what is wrong meanwhile.

For parts that whoever needs them next would start again too. A part that is back within some seconds was never broken:
its callers waited, and only the log was told. One that keeps ending is left to its callers for a while each time.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from server.parts.serving import Part

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a part that works is looked at; a call that fails makes us look at once."""
PATIENCE_S = 5.0
"""A start takes about a second, more on a busy machine; one that takes longer than this is a fault."""
START_LIMIT_S = 120.0
"""Parts give up a start of theirs after a minute, and may try twice; what takes longer than this hangs."""
STEADY_S = 60.0
"""A part that has been up for so long has recovered: its next end is the first of a new row."""
DELAYS_S = (0.0, 1.0, 2.0, 5.0, 15.0)
"""Before the first start, the second and so on."""


class Mender:
    """Looks after one part."""

    def __init__(  # noqa: PLR0913  # times are for tests
        self,
        part: Part,
        *,
        is_up: Callable[[], bool],
        start: Callable[[], Awaitable[object]],
        restarts: Callable[[], int],
        unavailable: type[Exception],
        look_s: float = LOOK_S,
        patience_s: float = PATIENCE_S,
        start_limit_s: float = START_LIMIT_S,
        steady_s: float = STEADY_S,
        delays_s: Sequence[float] = DELAYS_S,
    ) -> None:
        """`is_up` is asked often and must not wait; `start` ends well only where the part works, and may do nothing
        where it does; `restarts` counts everybody's; `unavailable` is what calls raise when it cannot be started."""
        self.part = part
        self._is_up = is_up
        self._start = start
        self._restarts = restarts
        self._unavailable = unavailable
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
    def noticing(self) -> Generator[None]:
        """Around a call of the part: notices where it says that it is unavailable."""
        try:
            yield
        except self._unavailable as error:
            self._break(str(error))
            self._alarm.set()
            raise

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
                await self._mend()
            setbacks += 1
            trouble_s = now()

    def _is_well(self) -> bool:
        return self._fault is None and self._is_up()

    async def _mend(self) -> None:
        late = asyncio.get_running_loop().call_later(self._patience_s, self._take_long)
        limit = asyncio.timeout(self._start_limit_s)
        try:
            async with limit:
                await self._start()
        except self._unavailable as error:
            self._break(str(error))
        except Exception as error:  # noqa: BLE001  # the boundary: whatever a start raises, there will be another
            if not limit.expired():
                self._break(f"{type(error).__name__}: {error}")
            elif not self._is_up():  # as below
                self._break(f"it ended, and starting it again took longer than {self._start_limit_s:.0f} s")
        else:
            if self._fault is not None:
                logger.info("%s works again", self.part)
            self._fault = None
        finally:
            late.cancel()

    def _take_long(self) -> None:
        if not self._is_up():  # else it only waits for its turn among others
            self._break("it ended, and starting it again takes long")

    def _break(self, fault: str) -> None:
        if fault != self._fault:
            logger.error("%s does not work: %s", self.part, fault)
        self._fault = fault


@asynccontextmanager
async def at_work(menders: Sequence[Mender]) -> AsyncGenerator[None]:
    """All of them look after their parts in here."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mender.run()) for mender in menders]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
