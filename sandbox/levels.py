"""Levels: how well a self-test finds steps confined, and the minimum that is required.

The self-test runs steps in a throw-away tree that try forbidden actions. The level depends on what the kernel did, not
on what it was asked for or claims to support.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sandbox.confinement import Mechanism
from sandbox.errors import SandboxUnavailable
from sandbox.family import Family, FamilyEnd, FamilyEnded, ForkFailed, Task
from sandbox.mounts import UNLISTED_FILE
from sandbox.step import Limits, Outcome, StepResult, result_of
from sandbox.zygote_process import ZygoteProcess, ZygoteReport

LEVEL_VARIABLE = "RSTAR_SANDBOX_MIN_LEVEL"
"""`full` (the default) or `reduced`: with less, nothing starts."""

_LIMITS = Limits(cpu_s=0.2, wall_s=10.0, memory_mb=256, output_bytes=4096)
"""Short, as one test runs until it is stopped."""


class Level(StrEnum):
    """How well steps are confined."""

    FULL = "full"
    """Every layer holds."""
    REDUCED = "reduced"
    """Every mandatory layer holds; namespaces or Landlock do not."""
    NONE = "none"
    """A mandatory layer is missing: steps must not run."""

    def is_at_least(self, other: "Level") -> bool:
        order = list(Level)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One thing that steps must not be able to do, or one layer that is to stop them."""

    name: str
    is_mandatory: bool
    reason: str | None
    """Why it does not hold, in words; None where it does."""


def assess(protections: Iterable[Protection]) -> Level:
    """The level that these protections give."""
    missing = [protection for protection in protections if protection.reason is not None]
    if any(protection.is_mandatory for protection in missing):
        return Level.NONE
    return Level.REDUCED if missing else Level.FULL


def wanted_level(environment: Mapping[str, str]) -> Level:
    """The least level that the environment permits. Raises ValueError."""
    text = environment.get(LEVEL_VARIABLE, Level.FULL)
    if text not in (Level.FULL, Level.REDUCED):
        raise ValueError(f"{LEVEL_VARIABLE} must be {Level.FULL} or {Level.REDUCED}, not {text!r}")
    return Level(text)


def refusal(level: Level, wanted: Level, protections: Iterable[Protection]) -> str:
    """Why the sandbox does not start, and which setting would permit it."""
    failed = "; ".join(f"{protection.name}: {protection.reason}" for protection in protections if protection.reason)
    remedy = f"{LEVEL_VARIABLE}={level} would permit it"
    if level is Level.NONE:
        remedy = f"no value of {LEVEL_VARIABLE} permits that"
    return f"steps can be confined at level {level} only, and {wanted} is wanted ({failed}); {remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """A step and the outcome that shows that a protection holds."""

    protection: str
    code: str
    outcome: Outcome = Outcome.ERROR
    is_mandatory: bool = True


_LATE_IMPORT = """
import importlib, sys
names = [name for name in ("filecmp", "graphlib", "netrc", "tabnanny", "wave") if name not in sys.modules]
importlib.import_module(names[0])
import sympy.abc
"""
"""Modules the zygote has not loaded: below a private home the service user can read them in the mount view only."""

_TESTS = (
    _Test(protection="ordinary steps", code="print('alive')", outcome=Outcome.OK),
    _Test(protection="late imports", code=_LATE_IMPORT, outcome=Outcome.OK, is_mandatory=False),
    _Test(protection="file reading", code="open('/etc/passwd').read()"),
    _Test(protection="file listing", code="os.listdir('/etc')"),
    _Test(protection="file writing", code="open('/dev/null', 'w')"),
    _Test(protection="file creation", code="open('/tmp/created', 'x')"),
    _Test(protection="network", code="socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    _Test(protection="local sockets", code="socket.socketpair()"),
    _Test(protection="machine sockets", code="socket.socket(40, socket.SOCK_STREAM)"),
    _Test(protection="processes", code="os.fork() or os._exit(0)"),
    _Test(protection="threads", code="threading.Thread(target=int).start()"),
    _Test(protection="programs", code="os.execv('/proc/self/exe', ['python'])"),
    _Test(protection="signals", code="os.kill(os.getppid() or 1, 0)"),
    _Test(protection="tracing", code="assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0"),
    _Test(protection="shared memory", code="__import__('mmap').mmap(-1, 4096)"),
    _Test(protection="limits", code="__import__('resource').setrlimit(__import__('resource').RLIMIT_CORE, (0, 0))"),
    _Test(protection="user", code="assert os.getuid() == 0"),
    _Test(protection="memory limit", code="x = bytearray(2 << 30)", outcome=Outcome.MEMORY),
    _Test(protection="output limit", code="print('x' * 5000)", outcome=Outcome.OUTPUT_LIMIT),
    _Test(protection="time limit", code="while True: pass", outcome=Outcome.TIMEOUT_CPU),
)

_IMPORTS = "import ctypes, os, socket, threading\n"
"""Before every test; modules that the zygote has loaded."""

_VIEW_OF_ROOT = "print(os.path.lexists('/etc'), os.path.lexists('/proc'), os.getpid())"
"""Landlock does not hide that a file exists. Only the mount view does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What the self-test found."""

    protections: tuple[Protection, ...]
    fork_gate: str


async def run_self_test(zygote: ZygoteProcess) -> SelfTest:
    """Try everything. Raises SandboxUnavailable where not even an ordinary step works."""
    tree = _TestTree(zygote)
    try:
        protections = [await tree.protection(test) for test in _TESTS] + await _layers(tree, zygote.report)
    except PermissionError as error:
        raise SandboxUnavailable(f"no fork gate: the kernel cannot ask, and limits cannot be lifted: {error}") from None
    finally:
        await tree.close()
    return SelfTest(protections=tuple(protections), fork_gate=tree.fork_gate)


class _TestTree:
    """Runs tests, each in a fresh interpreter."""

    fork_gate = "none"
    root_pid = 0

    def __init__(self, zygote: ZygoteProcess) -> None:
        self._zygote = zygote
        self._family: Family | None = None

    async def protection(self, test: _Test) -> Protection:
        result, _ = await self.run(test.code)
        reason = None
        if result is None:
            reason = "no process could be forked"
        elif result.outcome is not test.outcome:
            reason = f"a try ended as {result.outcome}" + (f": {result.error}" if result.error else "")
        return Protection(name=test.protection, is_mandatory=test.is_mandatory, reason=reason)

    async def run(self, code: str) -> tuple[StepResult | None, int]:
        """The result, None where the whole family ended; and the pid it had outside."""
        if self._family is None or self._family.end is not None:
            self._family = await self._zygote.family(_LIMITS, on_violation=lambda: None)
            self.fork_gate, self.root_pid = self._family.gate.description, self._family.root.pid
        family = self._family
        try:
            node = await family.fork(family.root)
            try:
                step_exit = await family.run(node, Task(seed=0, code=_IMPORTS + code), on_usage=lambda _: None)
            finally:
                family.discard(node)
        except (ForkFailed, FamilyEnded):
            return None, 0
        return result_of(step_exit, _LIMITS), node.pid

    async def close(self) -> None:
        if self._family is not None:
            self._zygote.release(self._family, FamilyEnd.CLOSED)
            await self._family.gone()


async def _layers(tree: _TestTree, report: ZygoteReport) -> list[Protection]:
    """The protections that each layer gives by itself."""
    result, pid = await tree.run(_VIEW_OF_ROOT)
    words = result.stdout.split() if result is not None else []
    has_view = words[:2] == ["False", "False"] and words[2] != str(pid)
    unlisted, _ = await tree.run(f"open({UNLISTED_FILE if has_view else '/etc/passwd'!r})")
    is_refused = unlisted is not None and (unlisted.error or "").startswith("PermissionError")
    kernel = _kernel_view(tree.root_pid)
    seccomp = None if kernel.get("Seccomp") == "2" else f"the kernel says {kernel.get('Seccomp', 'nothing')}"
    privileges = None if kernel.get("NoNewPrivs") == "1" else "the kernel says that privileges can be gained"
    user = None if "0" not in kernel.get("Uid", "0").split() else "steps run as the machine's root"
    off = report.off
    namespaces = None if has_view else off.get(Mechanism.NAMESPACES, "the machine's folders are in view")
    landlock = None if is_refused else off.get(Mechanism.LANDLOCK, "an unlisted file opens")
    return [
        Protection(name="seccomp", is_mandatory=True, reason=seccomp and off.get(Mechanism.SECCOMP, seccomp)),
        Protection(name="no new privileges", is_mandatory=True, reason=privileges),
        Protection(name="service user", is_mandatory=True, reason=user),
        Protection(name="namespaces", is_mandatory=False, reason=namespaces),
        Protection(name="Landlock", is_mandatory=False, reason=landlock),
    ]


def _kernel_view(pid: int) -> dict[str, str]:
    """The kernel's view of a tree's first process, whose credentials and filters every node has."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name: text.strip() for name, _, text in fields}
