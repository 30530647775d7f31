"""Signals that come while the demo shows something."""

import io
import signal
from collections.abc import Callable, Generator

import pytest
from rich.console import Console
from rich.live import Live

from server.demo.signals import ENDING_SIGNALS, Interrupted, heed_signals, while_shown


@pytest.fixture(autouse=True)
def heeded() -> Generator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING_SIGNALS}
    heed_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _idle() -> str:
    return "done"


class _Display:
    """Goes up and down in two steps each, with something happening between them."""

    def __init__(self, *, starting: Callable[[], object] = _idle, stopping: Callable[[], object] = _idle) -> None:
        self._starting, self._stopping = starting, stopping
        self.seen: list[str] = []

    def start(self) -> None:
        self.seen.append("starting")
        self._starting()
        self.seen.append("up")

    def stop(self) -> None:
        if self.seen[-1] == "up":
            self.seen.append("stopping")
            self._stopping()
            self.seen.append("gone")


_WHOLE = ["starting", "up", "stopping", "gone"]


def test_work_without_a_signal_gives_what_it_gives() -> None:
    display = _Display()
    assert while_shown(display, _idle) == "done"
    assert display.seen == _WHOLE


@pytest.mark.parametrize(
    ("display", "work"),
    [
        (_Display(starting=_interrupt), _idle),
        (_Display(), _interrupt),
        (_Display(stopping=_interrupt), _idle),
    ],
    ids=["on its way up", "up", "on its way down"],
)
def test_a_display_is_taken_down_whenever_the_signal_comes(display: _Display, work: Callable[[], object]) -> None:
    with pytest.raises(Interrupted) as raised:
        while_shown(display, work)
    assert raised.value.number == signal.SIGINT
    assert display.seen == _WHOLE


def test_a_second_signal_does_not_break_off_what_the_first_cleans_up() -> None:
    def work() -> None:
        try:
            _interrupt()
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")

    cleaned: list[str] = []
    with pytest.raises(Interrupted) as raised:
        while_shown(_Display(), work)
    assert (raised.value.number, cleaned) == (signal.SIGINT, ["all"])


def test_the_terminal_gets_its_cursor_back_from_a_display_interrupted_on_its_way_up() -> None:
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "\x1b[?25l" in text:
                _interrupt()
            return written

    terminal = Terminal()
    live = Live("panel", console=Console(file=terminal, force_terminal=True), transient=True, auto_refresh=False)
    with pytest.raises(Interrupted):
        while_shown(live, _idle)
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_signals_that_the_shell_ignores_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heed_signals()
    assert while_shown(_Display(), lambda: signal.raise_signal(signal.SIGHUP)) is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
