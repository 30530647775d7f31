"""Zygote: a small process with sympy and numpy loaded that forks one confined process for each step.

Started by exec, never by fork, so nothing of the server is in its memory. Runs no step code itself. Ends when the
server does: by the kernel's parent-death signal, or at the end of its control socket; its children end with it.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sandbox.confinement import STEP_SOCKET, Confinement
from sandbox.preload import preload
from sandbox.probe import MANDATORY, probe
from sandbox.step import Interpreter, serve
from sandbox.wire import EXIT_UNCONFINED, Exit, Fork, Kill, decode_command, encode_exit

_PROBE = Fork(job=0, cpu_s=1, memory_mb=64, stack_mb=8, open_files=64, output_bytes=1)


def main(control_fd: int, server_pid: int) -> None:
    """Get confined, tell the server what holds, then serve until it goes away."""
    control = socket.socket(fileno=control_fd)
    try:
        confinement = Confinement()
        network_shortfall = confinement.enter_zygote()
        missing = preload()
        interpreter = Interpreter()
        gc.collect()
        gc.freeze()  # what is there now never needs collecting: steps then leave its memory shared
        settled = confinement.settle_zygote(server_pid=server_pid)
        _forget_ourselves()
        findings = _probe_in_child(confinement)
    except Exception as error:  # noqa: BLE001  # the only way out: nobody reads this process's standard error
        control.send(json.dumps({"refused": f"{type(error).__name__}: {error}"}).encode())
        return
    findings["network namespace"] = network_shortfall
    for name, shortfall in (("service user", settled.uid_shortfall), ("file reading", settled.reading_shortfall)):
        findings[name] = findings[name] and (shortfall or findings[name])
    findings["libraries"] = f"not installed: {', '.join(missing)}" if missing else None
    failed = {name: findings[name] for name in MANDATORY if findings[name] is not None}
    control.send(json.dumps({"refused": str(failed)} if failed else {"findings": findings}).encode())
    if not failed:
        Zygote(control, confinement, interpreter).serve()


class Zygote:
    """The loop: commands in, exits out."""

    def __init__(self, control: socket.socket, confinement: Confinement, interpreter: Interpreter) -> None:
        self._control = control
        self._confinement = confinement
        self._interpreter = interpreter
        self._job_by_pid: dict[int, int] = {}
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._woken):
            poll.register(descriptor, select.POLLIN)
        is_serving = True
        while is_serving:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._control.fileno() in ready:
                is_serving = self._obey()
        for pid in self._job_by_pid:
            os.kill(pid, signal.SIGKILL)
        for pid in self._job_by_pid:
            os.waitpid(pid, 0)

    def _obey(self) -> bool:
        """Carry out one command; False at the end of the control socket."""
        packet, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        if not packet:
            return False
        match decode_command(packet):
            case Fork() as fork:
                pid = _fork(lambda: self._become_step(fork, descriptors[0]))
                os.close(descriptors[0])
                self._job_by_pid[pid] = fork.job
            case Kill(job):
                for pid, other in self._job_by_pid.items():
                    if other == job:
                        os.kill(pid, signal.SIGKILL)
        return True

    def _reap(self) -> None:
        while self._job_by_pid:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            job = self._job_by_pid.pop(pid)
            self._control.send(encode_exit(Exit(job, status, usage.ru_utime + usage.ru_stime)))

    def _become_step(self, fork: Fork, socket_fd: int) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._confinement.enter_step(fork, socket_fd)
        except OSError:
            os._exit(EXIT_UNCONFINED)
        serve(self._interpreter, STEP_SOCKET, output_bytes=fork.output_bytes)


def _wake_up(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor does the work; without a handler it would stay silent."""


def _fork(child: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(1)
    return pid


def _probe_in_child(confinement: Confinement) -> dict[str, str | None]:
    ours, theirs = socket.socketpair()

    def report() -> None:
        confinement.enter_step(_PROBE, theirs.fileno())
        os.write(STEP_SOCKET, json.dumps(probe()).encode())

    with ours, theirs:
        pid = _fork(report)
        theirs.close()
        answer = ours.recv(65536)
        os.waitpid(pid, 0)
    if not answer:
        raise OSError("a confined process could not be made")
    return json.loads(answer)


def _forget_ourselves() -> None:
    """Take our modules out of what steps can import; the code that runs keeps its references."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        del sys.modules[name]


def start(arguments: list[str]) -> NoReturn:
    """The entry point of the exec'd process."""
    control_fd, server_pid = map(int, arguments)
    sys.argv = [""]
    main(control_fd, server_pid)
    sys.exit(0)
