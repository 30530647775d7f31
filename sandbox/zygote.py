"""Zygote: a small process with sympy and numpy loaded that forks the first process of each tree.

Started by exec, never by fork, so nothing of the server is in its memory. Runs no step code itself. The exec'd process,
the *launcher*, leaves the machine's namespaces, forks the zygote into them, and only watches from then on: whichever of
server, launcher and zygote ends takes the others and all trees with it.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import NoReturn

from sandbox.confinement import Confinement, Mechanism, Ruleset, TreeNamespaces, enter_namespaces
from sandbox.interpreter import Interpreter, list_modules, preload
from sandbox.libc import PR_SET_PDEATHSIG, Libc
from sandbox.mounts import VisibleFolders, enter_view
from sandbox.node import SOCKET, Lifeline, Link, adopt, serve, tie_group
from sandbox.wire import FAILED, HELLO, LISTENER, MAX_ERROR_BYTES, decode_options

_GONE_MS = 5000
"""Killed processes need milliseconds to go, unless they free gigabytes on a busy machine."""


class _Plan:
    """The options that the server gives this zygote."""

    def __init__(self, text: str) -> None:
        fields = json.loads(text)
        self.control_fd: int = fields["control_fd"]
        self.lifeline_fd: int = fields["lifeline_fd"]
        self.switched_off = frozenset(map(Mechanism, fields["switched_off"]))
        self.has_namespaces = Mechanism.NAMESPACES not in self.switched_off
        self.folders = VisibleFolders(**fields["folders"])


def start(arguments: list[str]) -> NoReturn:
    """The entry point of the exec'd process."""
    plan = _Plan(arguments[0])
    sys.argv = [""]
    control = socket.socket(fileno=plan.control_fd)
    _reset_signals()
    libc = Libc()
    if plan.has_namespaces:
        try:
            enter_namespaces(libc, lambda: _ask_for_maps(control))
        except OSError as error:
            _refuse(control, Mechanism.NAMESPACES, error)
    else:
        # The launcher's own group, which the zygote stays in: all three may be killed at once.
        tie_group(plan.lifeline_fd)
    # When memory is short, the kernel should kill steps, not the server. This is only a request to it.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    launcher = os.pidfd_open(os.getpid())
    zygote_pid = os.fork()
    if zygote_pid == 0:
        _be_zygote(plan, control, libc, launcher)
    os.close(launcher)
    _watch(control, zygote_pid, has_namespaces=plan.has_namespaces)


def _reset_signals() -> None:
    """Restore Python's defaults for steps, since the server may ignore signals: under `nohup` it ignores SIGHUP.

    Where there are no namespaces, SIGHUP is also what the kernel ends a tree's stopped processes by.
    """
    python_ignores = {signal.SIGPIPE, signal.SIGXFSZ}
    for number in signal.valid_signals() - python_ignores - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for children, and none must become a zombie


def _ask_for_maps(control: socket.socket) -> None:
    control.send(json.dumps({"asks_for_maps": True}).encode())
    if not control.recv(1):
        sys.exit(1)


def _refuse(control: socket.socket, mechanism: Mechanism | None, error: Exception) -> NoReturn:
    """Send the reason to the server, since this process's standard error is not read."""
    control.send(json.dumps({"refused": str(error) or type(error).__name__, "mechanism": mechanism}).encode())
    os._exit(1)


def _watch(control: socket.socket, zygote_pid: int, *, has_namespaces: bool) -> NoReturn:
    """Wait for the end of the server or of the zygote, then end everything."""
    zygote = os.pidfd_open(zygote_pid)
    poll = select.poll()
    poll.register(control, 0)  # only its end: the zygote reads it
    poll.register(zygote, select.POLLIN)
    poll.poll()
    with contextlib.suppress(ProcessLookupError):  # it may have been the first to go
        signal.pidfd_send_signal(zygote, signal.SIGKILL)
    if not has_namespaces:
        _kill_session()
    poll.unregister(control)
    poll.poll(_GONE_MS)  # the first process of a namespace is gone when all the others are
    os._exit(0)


def _be_zygote(plan: _Plan, control: socket.socket, libc: Libc, launcher: int) -> NoReturn:
    if plan.has_namespaces:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        missing = preload(plan.folders.packages)
        interpreter = Interpreter()
        gc.collect()
        gc.freeze()  # the present objects never need collecting: nodes then leave their memory shared
        with open("/proc/self/statm", encoding="ascii") as file:
            base_bytes = int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ImportError) as error:
        _refuse(control, None, error)
    namespaces = None
    if plan.has_namespaces:
        try:
            enter_view(libc, plan.folders)
            namespaces = TreeNamespaces(libc)
        except OSError as error:
            _refuse(control, Mechanism.NAMESPACES, error)
    sys.path[:] = plan.folders.standard
    list_modules(sys.path)
    ruleset, reason = _make_ruleset(libc, plan)
    confinement = Confinement(libc, base_bytes=base_bytes, ruleset=ruleset, switched_off=plan.switched_off)
    findings = {
        "missing": missing,
        "landlock_reason": reason,
        "landlock_version": ruleset.version if ruleset else None,
    }
    # Takes this package out of what steps can import; the code that runs keeps its references.
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        del sys.modules[name]
    control.send(json.dumps({"ready": findings}).encode())
    lifeline = None if plan.has_namespaces else plan.lifeline_fd
    _Zygote(control, confinement, interpreter, namespaces, lifeline).serve(launcher)
    os._exit(0)


def _make_ruleset(libc: Libc, plan: _Plan) -> tuple[Ruleset | None, str | None]:
    """The rules, or why there are none."""
    if Mechanism.LANDLOCK in plan.switched_off:
        return None, "switched off"
    try:
        return Ruleset(libc, plan.folders.readable()), None
    except OSError as error:
        return None, error.strerror or str(error)


class _Zygote:
    """The loop: one command, one tree."""

    def __init__(
        self,
        control: socket.socket,
        confinement: Confinement,
        interpreter: Interpreter,
        namespaces: TreeNamespaces | None,
        lifeline: int | None,
    ) -> None:
        """`lifeline`: given where there are no namespaces."""
        self._control = control
        self._confinement = confinement
        self._interpreter = interpreter
        self._namespaces = namespaces
        self._lifeline = lifeline

    def serve(self, launcher: int) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if self._namespaces is None:
            # In a namespace of its own this process dies with its parent, by the kernel.
            poll.register(launcher, select.POLLIN)
        while {descriptor for descriptor, _ in poll.poll()} == {self._control.fileno()}:
            frame, descriptors, _, _ = socket.recv_fds(self._control, 256, 1)
            if not frame:
                break
            self._make_tree(frame, descriptors[0])
            os.close(descriptors[0])
        if self._namespaces is None:
            _kill_session()

    def _make_tree(self, frame: bytes, descriptor: int) -> None:
        try:
            if self._namespaces is not None:
                self._namespaces.renew()
            pid = os.fork()
        except OSError as error:
            _say(descriptor, FAILED + str(error).encode())
            return
        if pid == 0:
            self._become_root(frame, descriptor)

    def _become_root(self, frame: bytes, descriptor: int) -> NoReturn:
        options = decode_options(frame)
        interpreter = self._interpreter
        links: list[Link] = []
        try:
            os.setpgid(0, 0)  # by its group the whole tree can be killed at once
            tied = None if self._lifeline is None else tie_group(self._lifeline)

            def close_others() -> None:
                adopt(descriptor, lifeline=tied)
                links.append(Link())

            def hand_over(listener: int) -> None:
                with socket.socket(fileno=os.dup(SOCKET)) as ours:
                    socket.send_fds(ours, [LISTENER], [listener])

            self._confinement.enter(options, hand_over=hand_over, close_others=close_others)
            interpreter.limit_output(options.output_bytes)
        except BaseException as error:  # noqa: BLE001  # after any failure, no half-confined process may go on
            message = f"{type(error).__name__}: {error}".encode()[:MAX_ERROR_BYTES]
            _say(descriptor if not links else SOCKET, FAILED + message)
            os._exit(1)
        lifeline = Lifeline(is_held=tied is not None)
        _say(SOCKET, HELLO)
        serve(links[0], interpreter, lifeline)
        os._exit(1)


def _kill_session() -> None:
    """Without a namespace of their own, processes are found by the session, which none of them can leave."""
    session, own = os.getsid(0), {os.getpid(), os.getppid()}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in own:
            try:
                if os.getsid(int(entry)) == session:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue  # gone meanwhile


def _say(descriptor: int, frame: bytes) -> None:
    with contextlib.suppress(OSError):  # the server has gone, or changed its mind
        os.write(descriptor, frame)
