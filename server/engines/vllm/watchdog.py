"""The watchdog: a process that waits for the server's end, and then kills the processes that its engines left behind.

Engine processes do not notice that the server was killed: they lived on for over a minute. They are known by a mark in
their environment, which every process that they start inherits. Run as a script it imports nothing but the
standard library.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "_RSTAR_ENGINE_OF"
"""Environment variable of an engine's processes. The value identifies their engine."""
_ROUND_S = 0.2
_QUIET_ROUNDS = 5
"""A process that was just being started shows its environment only a moment later."""


@contextmanager
def watchdog(mark: str) -> Generator[None]:
    """Watches over the processes with one mark while the context is open; leaving it kills them."""
    # A session of its own: a terminal's Ctrl-C ends the server, and must not end the process that cleans up.
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark]
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    process = subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        kill_marked(mark)


def kill_marked(mark: str) -> int:
    """Kill every process with this mark; how many there were."""
    count = 0
    for _, process in _marked(mark):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        count += 1
    return count


def marked(mark: str) -> list[int]:
    """The ids of the processes with this mark."""
    return [process_id for process_id, _ in _marked(mark)]


def _marked(mark: str) -> Iterator[tuple[int, int]]:
    """Id and descriptor of each process with this mark; the descriptor is open meanwhile, so that no id is reused."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            process = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name), process
        except OSError:
            continue
        finally:
            os.close(process)


def _watch(server: int, mark: str) -> None:
    """Wait until process `server` is gone; kill until nothing with the mark has been seen for a while."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(server)
        # Not our parent any more: the server ended before we looked, and the number may be another's.
        if os.getppid() == server:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
    quiet = 0
    while quiet < _QUIET_ROUNDS:
        quiet = 0 if kill_marked(mark) else quiet + 1
        time.sleep(_ROUND_S)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2])
