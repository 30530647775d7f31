"""Host: the server's end of one zygote: starts it, passes it commands, notices when it or a job's process is gone."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from sandbox.errors import SandboxUnavailable
from sandbox.wire import Exit, Fork, Kill, decode_exit, encode_command

_START_S = 60.0
"""Loading sympy takes under a second, but a cold disk or a busy machine can stretch it."""

_STOP_S = 2.0
"""A zygote needs milliseconds to obey; one that needs longer is killed."""

_PACKAGE = str(Path(__file__).resolve().parent)

_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/nonexistent",
}
"""All that a step finds in `os.environ`: results must not depend on the server's. Threads do not survive a fork."""

# The package's `__init__` is for servers and loads asyncio: the zygote gets a bare package in its place. `-P` and `-s`
# keep the working directory and the user's packages out; `-I` would too, but ignores PYTHONHASHSEED.
_ENTRY = """
import sys, types
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv.pop(1)]
sys.modules["sandbox"] = package
from sandbox.zygote import start
start(sys.argv[1:])
"""


class ZygoteProcess:
    """A running zygote; belongs to one event loop."""

    def __init__(self, process: Process, control: socket.socket, findings: dict[str, str | None]) -> None:
        self._process = process
        self._control = control
        self._exits: dict[int, asyncio.Future[Exit | None]] = {}
        self._jobs = itertools.count(1)
        self.findings = findings
        self.is_alive = True
        asyncio.get_running_loop().add_reader(control, self._hear)

    @classmethod
    async def start(cls) -> "ZygoteProcess":
        """Start one and wait until it is ready. Raises SandboxUnavailable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-s", "-P", "-c", _ENTRY, _PACKAGE, str(theirs.fileno()), str(os.getpid())),
                    env=_ENVIRONMENT,
                    cwd="/",
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=DEVNULL,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                )
        except BaseException:
            ours.close()
            raise
        try:
            return cls(process, ours, await _hello(ours))
        except BaseException:
            ours.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, limits: Fork, step_socket: socket.socket) -> tuple[int, asyncio.Future[Exit | None]]:
        """Have a step process forked, under the next job number; the future ends when it is gone.

        It ends with None when the zygote itself is gone.
        """
        job = next(self._jobs)
        gone: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        self._exits[job] = gone
        try:
            socket.send_fds(self._control, [encode_command(limits._replace(job=job))], [step_socket.fileno()])
        except OSError:
            self._die()
        return job, gone

    async def end(self, job: int) -> None:
        """Kill a job's process and wait until it is gone; a zygote that does not obey is killed itself."""
        gone = self._exits.get(job)
        if gone is None or gone.done():
            return
        self.kill(job)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await asyncio.wait([gone])
        if not gone.done():
            self._die()

    def kill(self, job: int) -> None:
        """Ask for a job's process to be killed."""
        if not self.is_alive:
            return
        try:
            self._control.send(encode_command(Kill(job)))
        except OSError:
            self._die()

    async def close(self) -> None:
        """End the zygote and everything it runs."""
        self._forget_control()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self._die()
        await self._process.wait()

    def _hear(self) -> None:
        try:
            packet = self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._die()
            return
        notice = decode_exit(packet)
        gone = self._exits.pop(notice.job)
        if not gone.done():
            gone.set_result(notice)

    def _die(self) -> None:
        self._forget_control()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        for gone in self._exits.values():
            if not gone.done():
                gone.set_result(None)
        self._exits.clear()

    def _forget_control(self) -> None:
        if self.is_alive:
            self.is_alive = False
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()


async def _hello(control: socket.socket) -> dict[str, str | None]:
    try:
        async with asyncio.timeout(_START_S):
            packet = await asyncio.get_running_loop().sock_recv(control, 65536)
    except TimeoutError:
        raise SandboxUnavailable(f"the zygote did not get ready within {_START_S:.0f} s") from None
    if not packet:
        raise SandboxUnavailable("the zygote ended before it was ready")
    hello = json.loads(packet)
    if "refused" in hello:
        raise SandboxUnavailable(f"steps cannot be confined here: {hello['refused']}")
    return hello["findings"]
