"""Signals while the demo runs: the first one ends it and runs every `finally`."""

import io
import signal
from collections.abc import Generator
from functools import partial

import pytest
from rich.console import Console

from server.demo import __main__ as demo
from server.demo.server import Interrupted, raise_on_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def signals_raise() -> Generator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    raise_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_raises_its_number(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as raised:
        signal.raise_signal(number)
    assert raised.value.number == number


def test_a_second_signal_does_not_interrupt_the_cleaning_up() -> None:
    cleaned: list[str] = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")

    with pytest.raises(Interrupted) as raised:
        work()
    assert (raised.value.number, cleaned) == (signal.SIGINT, ["all"])


def test_signals_that_the_shell_ignores_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_on_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _given(console: Console, *, highlight: bool) -> Console:
    return console


def test_an_interrupted_display_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "\x1b[?25l" in text:  # rich has just hidden the cursor
                signal.raise_signal(signal.SIGINT)
            return written

    terminal = Terminal()
    console = Console(file=terminal, force_terminal=True)
    monkeypatch.setattr(demo, "Console", partial(_given, console))
    monkeypatch.setenv("PROBLEM", "1+1")
    with pytest.raises(SystemExit) as left:
        demo.main([])
    assert left.value.code == 128 + signal.SIGINT
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
