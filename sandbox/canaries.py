"""Canaries: tries, as steps of a throw-away tree, what no step may do, and tells what happened.

Rests on what the kernel did, not on what it was asked for or what it claims to support.
"""

from dataclasses import dataclass
from pathlib import Path

from sandbox.confinement import Mechanism
from sandbox.ending import StepResult, judge
from sandbox.errors import SandboxUnavailable
from sandbox.family import Family, FamilyEnd, FamilyEnded, ForkFailed, Task
from sandbox.host import ZygoteProcess, ZygoteReport
from sandbox.levels import Protection
from sandbox.limits import Limits
from sandbox.mounts import UNLISTED_FILE
from sandbox.outcomes import Outcome

LIMITS = Limits(cpu_s=0.2, wall_s=10.0, memory_mb=256, output_bytes=4096)
"""Short, as one canary runs until it is stopped."""

_OS = "import ctypes, os, socket, threading\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canary:
    """Code whose act must fail, with an exception or by the outcome given."""

    protection: str
    act: str
    outcome: Outcome = Outcome.ERROR
    is_mandatory: bool = True


_CANARIES = (
    _Canary(protection="file reading", act="open('/etc/passwd').read()"),
    _Canary(protection="file listing", act="os.listdir('/etc')"),
    _Canary(protection="file writing", act="open('/dev/null', 'w')"),
    _Canary(protection="file creation", act="open('/tmp/canary', 'x')"),
    _Canary(protection="network", act="socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    _Canary(protection="local sockets", act="socket.socketpair()"),
    _Canary(protection="machine sockets", act="socket.socket(40, socket.SOCK_STREAM)"),
    _Canary(protection="processes", act="os.fork() or os._exit(0)"),
    _Canary(protection="threads", act="threading.Thread(target=int).start()"),
    _Canary(protection="programs", act="os.execv('/proc/self/exe', ['python'])"),
    _Canary(protection="signals", act="os.kill(os.getppid() or 1, 0)"),
    _Canary(protection="tracing", act="assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0"),
    _Canary(protection="shared memory", act="__import__('mmap').mmap(-1, 4096)"),
    _Canary(protection="limits", act="__import__('resource').setrlimit(__import__('resource').RLIMIT_CORE, (0, 0))"),
    _Canary(protection="user", act="assert os.getuid() == 0"),
    _Canary(protection="memory limit", act="x = bytearray(2 << 30)", outcome=Outcome.MEMORY),
    _Canary(protection="output limit", act="print('x' * 5000)", outcome=Outcome.OUTPUT_LIMIT),
    _Canary(protection="time limit", act="while True: pass", outcome=Outcome.TIMEOUT_CPU),
)

_LIVES = "print('alive')"

_LATE_IMPORT = """
import importlib, sys
names = [name for name in ("filecmp", "graphlib", "netrc", "tabnanny", "wave") if name not in sys.modules]
importlib.import_module(names[0])
import sympy.abc
print("alive")
"""
"""Modules the zygote has not loaded: below a private home the service user can read them in the mount view only."""

_VIEW_OF_ROOT = "import os\nprint(os.path.lexists('/etc'), os.path.lexists('/proc'), os.getpid())"
"""Looking whether a file is there is not Landlock's business: what is not there is the mount view's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of the canaries."""

    protections: tuple[Protection, ...]
    fork_gate: str


async def look_around(zygote: ZygoteProcess) -> Found:
    """Try everything. Raises SandboxUnavailable where not even an ordinary step works."""
    aviary = _Aviary(zygote)
    found: list[Protection] = []
    try:
        found += [await _works(aviary, "ordinary steps", _LIVES, is_mandatory=True)]
        found += [await _works(aviary, "late imports", _LATE_IMPORT, is_mandatory=False)]
        found += [await _tried(aviary, canary) for canary in _CANARIES]
        found += await _layers(aviary, zygote.report)
    except PermissionError as error:
        raise SandboxUnavailable(f"no fork gate: the kernel cannot ask, and limits cannot be lifted: {error}") from None
    finally:
        await aviary.close()
    return Found(protections=tuple(found), fork_gate=aviary.fork_gate)


class _Aviary:
    """Runs canaries, each from a fresh state."""

    def __init__(self, zygote: ZygoteProcess) -> None:
        self._zygote = zygote
        self._family: Family | None = None

    async def run(self, code: str) -> tuple[StepResult | None, int]:
        """What came of it, None where the whole family ended; and the pid it had outside."""
        if self._family is None or self._family.end is not None:
            self._family = await self._zygote.family(LIMITS, on_violation=lambda: None)
        family = self._family
        try:
            node = await family.fork(family.root)
            try:
                ending = await family.run(node, Task(seed=0, code=code), on_look=lambda usage: None)
            finally:
                family.discard(node)
        except (ForkFailed, FamilyEnded):
            return None, 0
        return judge(ending, LIMITS), node.pid

    @property
    def fork_gate(self) -> str:
        return self._family.gate_words if self._family is not None else "none"

    @property
    def root_pid(self) -> int:
        return self._family.root.pid if self._family is not None else 0

    async def close(self) -> None:
        if self._family is not None:
            self._zygote.release(self._family, FamilyEnd.CLOSED)
            await self._family.gone()


async def _works(aviary: _Aviary, name: str, code: str, *, is_mandatory: bool) -> Protection:
    result, _ = await aviary.run(code)
    reason = None
    if result is None or result.stdout != "alive\n":
        reason = result.error if result else "no process could be forked"
    return Protection(name=name, is_mandatory=is_mandatory, reason=reason)


async def _tried(aviary: _Aviary, canary: _Canary) -> Protection:
    result, _ = await aviary.run(_OS + canary.act)
    reason = None
    if result is None:
        reason = "no process could be forked"
    elif result.outcome is not canary.outcome:
        reason = f"an attempt ended as {result.outcome}"
    return Protection(name=canary.protection, is_mandatory=canary.is_mandatory, reason=reason)


async def _layers(aviary: _Aviary, report: ZygoteReport) -> list[Protection]:
    result, pid = await aviary.run(_VIEW_OF_ROOT)
    words = result.stdout.split() if result is not None else []
    is_apart = words[:2] == ["False", "False"] and words[2] != str(pid)
    unlisted, _ = await aviary.run(f"open({UNLISTED_FILE if is_apart else '/etc/passwd'!r})")
    is_listed = unlisted is not None and (unlisted.error or "").startswith("PermissionError")
    kernel = _kernel_view(aviary.root_pid)
    seccomp = None if kernel.get("Seccomp") == "2" else f"the kernel says {kernel.get('Seccomp', 'nothing')}"
    privileges = None if kernel.get("NoNewPrivs") == "1" else "the kernel says that privileges can be gained"
    user = None if "0" not in kernel.get("Uid", "0").split() else "steps run as the machine's root"
    off = report.off
    return [
        Protection(name="seccomp", is_mandatory=True, reason=seccomp and off.get(Mechanism.SECCOMP, seccomp)),
        Protection(name="no new privileges", is_mandatory=True, reason=privileges),
        Protection(name="service user", is_mandatory=True, reason=user),
        _layer("namespaces", is_apart, off.get(Mechanism.NAMESPACES, "the machine's folders are in view")),
        _layer("Landlock", is_listed, off.get(Mechanism.LANDLOCK, "an unlisted file opens")),
    ]


def _layer(name: str, holds: bool, reason: str) -> Protection:  # noqa: FBT001  # a table's column
    return Protection(name=name, is_mandatory=False, reason=None if holds else reason)


def _kernel_view(pid: int) -> dict[str, str]:
    """What the kernel says of a tree's first process, whose credentials and filters every node has."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name: text.strip() for name, _, text in fields}
