"""Demo signals: a signal ends the demo by way of every `finally`, and breaks into no part that must be whole.

Those are a display on its way up or down, which would leave the cursor hidden, and the start and stop of a server.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeVar

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Given = TypeVar("Given")


class Display(Protocol):
    """What stands in the terminal for a while."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Nothing, where it is not up."""
        ...


class Interrupted(BaseException):
    """A signal asks to leave."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def heed_signals() -> None:
    """From now on the first signal raises `Interrupted`, wherever the program is."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell sets it for jobs that shall run on
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for other in ENDING_SIGNALS:
        signal.signal(other, _pass_over)  # a second one would break off what the first has to clean up
    raise Interrupted(number)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    pass


@contextmanager
def signals_held() -> Generator[None]:
    """Signals that come meanwhile take effect afterwards."""
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: held.append(number)) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in held[:1]:
        signal.raise_signal(number)


def while_shown(display: Display, work: Callable[[], Given]) -> Given:
    """What `work` gives; the display is up meanwhile, and gone afterwards."""
    try:
        with signals_held():
            display.start()
        return work()
    finally:
        try:
            _take_down(display)
        finally:
            _take_down(display)  # where a signal came in the instant before the first was safe from it


def _take_down(display: Display) -> None:
    with signals_held():
        display.stop()
