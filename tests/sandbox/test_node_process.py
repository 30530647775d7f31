"""The server's end of one process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandbox.node_process import Channel, NodeProcess, is_dying
from tests.sandbox.processes import until


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def _node(process: subprocess.Popen[bytes]) -> NodeProcess:
    channel, theirs = Channel.pair()
    theirs.close()
    return NodeProcess(process.pid, channel)


async def test_the_cpu_time_of_a_dead_process_is_what_was_read_last(busy: subprocess.Popen[bytes]) -> None:
    node = _node(busy)
    assert await until(lambda: node.cpu_seconds() >= 0.05)
    last_s = node.cpu_seconds()
    busy.kill()
    busy.wait()
    assert node.cpu_seconds() == last_s
    node.close()


async def test_a_process_that_is_killed_is_dying_before_it_knows(busy: subprocess.Popen[bytes]) -> None:
    node = _node(busy)
    assert not is_dying(busy.pid)
    node.stop()
    assert not is_dying(busy.pid)
    os.kill(busy.pid, signal.SIGKILL)
    assert is_dying(busy.pid)
    busy.wait()
    assert is_dying(busy.pid)
    node.close()
