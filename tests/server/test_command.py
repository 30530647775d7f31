"""`python -m server` when it ends before anything is started: its output and exit code."""

import os
import re
import signal
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.__main__ import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    returncode: object
    stdout: str
    stderr: str


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Generator[Callable[..., Ended]]:
    """The command in this process, for what ends before anything is started: a process of its own takes a second."""
    for name in os.environ:
        if name.startswith("RSTAR_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("server.__main__.wait_passively", lambda: None)  # too late here: torch may be imported
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*options: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(options)
        printed = capsys.readouterr()
        return Ended(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    """Options naming folders that look like models from afar."""
    (tmp_path / "config.json").write_text("{}")
    return ("--policy-model", str(tmp_path), "--ppm-model", str(tmp_path))


def test_a_port_in_use_is_one_line(run_here: Callable[..., Ended], folders: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_here("--port", str(port), *folders)
    assert (ended.returncode, ended.stdout) == (1, "")
    reason = f"rstar: cannot listen on 127.0.0.1:{port}: Address already in use; see --host and --port\n"
    assert ended.stderr == reason


def test_a_host_that_is_none_of_ours_is_one_line(run_here: Callable[..., Ended], folders: tuple[str, ...]) -> None:
    ended = run_here("--host", "192.0.2.1", "--port", "0", *folders)
    assert ended.returncode == 1
    assert re.fullmatch(r"rstar: cannot listen on 192\.0\.2\.1:0: .*; see --host and --port\n", ended.stderr)


def test_a_missing_model_folder_is_one_line(run_here: Callable[..., Ended]) -> None:
    ended = run_here("--policy-model", "/nothing/policy", "--ppm-model", "/nothing/ppm")
    assert ended.returncode == 1
    assert re.fullmatch(r"rstar: RSTAR_POLICY_MODEL: /nothing/policy is no model folder; .*\n", ended.stderr)


def test_an_engine_that_lacks_its_settings_is_one_line(run_here: Callable[..., Ended]) -> None:
    ended = run_here("--engine", "openai")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "the engine openai needs policy_url and ppm_url" in ended.stderr


def test_print_config_shows_no_secret_and_starts_nothing(
    run_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSTAR_API_KEYS", "a-secret-of-some-length")
    ended = run_here("--print-config", "--port", "7")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "port = 7  # cli\n" in ended.stdout
    assert "secret" not in ended.stdout
