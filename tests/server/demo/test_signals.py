"""Signals while the demo runs: the first one cancels it, so that every `finally` runs."""

import asyncio
import io
import signal
from collections.abc import Generator

import pytest
from rich.console import Console

from server.demo import __main__ as demo


@pytest.fixture(autouse=True)
def unignored_signals() -> Generator[None]:
    """The tests may run where a shell or nohup ignores some."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in demo.ENDING_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _run(console: Console, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    def given(*, highlight: bool) -> Console:
        return console

    monkeypatch.setattr(demo, "Console", given)
    with pytest.raises(SystemExit) as left:
        demo.main([])
    return left.value.code


@pytest.mark.parametrize("number", demo.ENDING_SIGNALS)
def test_a_signal_cancels_the_demo_and_is_the_exit_code(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(*_: object, **__: object) -> None:
        signal.raise_signal(number)
        await asyncio.sleep(60)

    monkeypatch.setattr(demo, "run_demo", work)
    shown = io.StringIO()
    assert _run(Console(file=shown), monkeypatch) == 128 + number
    assert shown.getvalue() == "Interrupted; the server is stopped.\n"


def test_a_second_signal_does_not_interrupt_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[str] = []

    async def work(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.01)
            cleaned.append("all")

    monkeypatch.setattr(demo, "run_demo", work)
    assert _run(Console(file=io.StringIO()), monkeypatch) == 128 + signal.SIGINT
    assert cleaned == ["all"]


def test_signals_that_the_shell_ignores_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0.01)

    monkeypatch.setattr(demo, "run_demo", work)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert _run(Console(file=io.StringIO()), monkeypatch) == 0


def test_an_interrupted_display_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "\x1b[?25l" in text:  # rich hides the cursor
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    terminal = Terminal()
    monkeypatch.setenv("PROBLEM", "1+1")
    assert _run(Console(file=terminal, force_terminal=True), monkeypatch) == 128 + signal.SIGINT
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
