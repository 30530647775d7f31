"""Simulated clock: an event loop that does not sleep. Its figures are the same on every machine."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Returned = TypeVar("Returned")


class SimulatedClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when no callback is ready."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now_s

    def jump(self, seconds: float) -> None:
        """Move the clock on."""
        self._now_s += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: SimulatedClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self._loop.jump(timeout)
        return super().select(0)


def run_simulated(work: Coroutine[Any, Any, Returned]) -> Returned:
    """Run to the end in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedClockLoop) as runner:
        return runner.run(work)
