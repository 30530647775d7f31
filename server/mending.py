"""Mending: starts a part that has broken again, until that succeeds, and says what is wrong meanwhile.

For parts that whoever needs them next would start again too. A part that is back within some seconds was never broken:
its callers waited, and nobody else was told.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from server.parts import Part

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a part that works is looked at; a call that fails makes us look at once."""
PATIENCE_S = 5.0
"""A start takes about a second, more on a busy machine; one that takes longer than this is a fault."""
DELAYS_S = (1.0, 2.0, 5.0, 15.0)
"""Before the second start, the third and so on."""


class Mender:
    """Looks after one part."""

    def __init__(  # noqa: PLR0913  # times are for tests
        self,
        part: Part,
        *,
        is_up: Callable[[], bool],
        start: Callable[[], Awaitable[object]],
        unavailable: type[Exception],
        look_s: float = LOOK_S,
        patience_s: float = PATIENCE_S,
        delays_s: Sequence[float] = DELAYS_S,
    ) -> None:
        """`is_up` is asked often and must not wait; `start` ends well only where the part works, and may do nothing
        where it does; `unavailable` is what calls raise when it cannot be started."""
        self.part = part
        self._is_up = is_up
        self._start = start
        self._unavailable = unavailable
        self._look_s = look_s
        self._patience_s = patience_s
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
        setbacks = 0
        while True:
            self._alarm.clear()
            if self._fault is not None or not self._is_up():
                await self._mend()
            if self._fault is not None:
                await asyncio.sleep(self._delays_s[min(setbacks, len(self._delays_s) - 1)])
                setbacks += 1
                continue
            setbacks = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._alarm.wait()

    async def _mend(self) -> None:
        late = asyncio.get_running_loop().call_later(self._patience_s, self._take_long)
        try:
            await self._start()
        except self._unavailable as error:
            self._break(str(error))
        except Exception as error:  # noqa: BLE001  # the boundary: whatever a start raises, there will be another
            self._break(f"{type(error).__name__}: {error}")
        else:
            logger.info("%s was started again", self.part)
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
