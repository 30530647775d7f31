"""The watchdog: processes with the mark are killed, on request or at the server's end; others live on."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.engines.vllm.watchdog import MARK, kill_marked, marked, watchdog

GONE_S = 30.0
"""For what takes a second on an idle machine."""

SERVER = """
import subprocess, sys, time
from server.engines.vllm.watchdog import watchdog
with watchdog(sys.argv[1]):
    print("watched", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    mark = str(uuid.uuid4())
    yield mark
    kill_marked(mark)


def until(condition: Callable[[], bool]) -> None:
    """The kernel sends no event when a new process shows its environment."""
    deadline_s = time.monotonic() + GONE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def sleeper(mark: str | None) -> "subprocess.Popen[bytes]":
    """A process that would live on, in a session of its own as engines' processes may be. It shows its environment."""
    environment = {**os.environ, **({} if mark is None else {MARK: mark})}
    process = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    until(lambda: b"PATH=" in Path(f"/proc/{process.pid}/environ").read_bytes())
    return process


def test_only_marked_processes_are_killed(mark: str) -> None:
    mine, other, unmarked = sleeper(mark), sleeper(mark + "0"), sleeper(None)
    try:
        assert marked(mark) == [mine.pid]
        assert kill_marked(mark) == 1
        assert mine.wait(GONE_S) == -signal.SIGKILL
        assert (other.poll(), unmarked.poll()) == (None, None)
        assert not marked(mark)
    finally:
        for process in (other, unmarked):
            process.kill()
            process.wait()


def test_children_inherit_the_mark(mark: str) -> None:
    environment = {**os.environ, MARK: mark}
    code = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    until(lambda: len(marked(mark)) == 1)


def test_leaving_the_context_kills_what_is_left(mark: str) -> None:
    with watchdog(mark):
        left = sleeper(mark)
        assert left.poll() is None
    assert left.wait(GONE_S) == -signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_server_leaves_nothing_behind(mark: str, how: signal.Signals) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, mark], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"watched\n"
    left = [sleeper(mark) for _ in range(3)]
    server.send_signal(how)
    server.wait()
    server.stdout.close()
    assert [process.wait(GONE_S) for process in left] == [-signal.SIGKILL] * 3


def test_a_server_that_is_gone_already_is_noticed(mark: str) -> None:
    left = sleeper(mark)
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, "-I", "-S", str(sys.modules[watchdog.__module__].__file__), str(gone.pid), mark]
    subprocess.run(command, check=True, timeout=GONE_S)
    assert left.wait(GONE_S) == -signal.SIGKILL
