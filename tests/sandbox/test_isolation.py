"""What steps cannot do, see or leave behind."""

import pytest

from sandbox import Outcome, Sandbox, SandboxMisuse, Tree
from tests.sandbox.processes import nodes_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = [
    "open('/etc/passwd').read()",
    "import os; os.listdir('/')",
    "open('/proc/self/environ').read()",
    "import os; os.open('/etc/shadow', os.O_RDONLY)",
    "open('/tmp/planted', 'w')",
    "open('planted', 'x')",
    "import sympy; open(sympy.__file__, 'a')",
    "import os; os.mkdir('/tmp/planted')",
    "import os; os.unlink(os.__file__)",
    "import os; os.truncate(os.__file__, 0)",
    "import os; os.symlink('/etc/passwd', '/tmp/planted')",
    "import os; os.memfd_create('x')",
    "import os; os.fork()",
    "import os; os.execv('/bin/true', ['true'])",
    "import subprocess; subprocess.run(['true'])",
    "import threading; threading.Thread(target=print).start()",
    "import multiprocessing; multiprocessing.Pool(2)",
    "import socket; socket.socket()",
    "import socket; socket.socketpair()",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1/')",
    "import os; os.kill(os.getppid(), 9)",
    "import os; os.kill(-1, 9)",
    "import os; os.setsid()",
    "import os; os.setuid(0)",
    "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    "import fcntl, os; fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
    "import os; [os.dup(0) for _ in range(100)]",
    "import sandbox",
]


@pytest.mark.parametrize("code", REFUSED)
async def test_a_forbidden_act_is_an_ordinary_error(tree: Tree, code: str) -> None:
    result = await tree.run(None, code)
    assert result.outcome is Outcome.ERROR, result


async def test_a_fork_bomb_makes_nothing(sandbox: Sandbox, tree: Tree) -> None:
    code = "import os, ctypes\nfor _ in range(500):\n    try: os.fork()\n    except OSError: pass\n"
    result = await tree.run(None, code + "print(os.system('true') != 0, ctypes.CDLL(None).fork())")
    assert (result.outcome, result.stdout) == (Outcome.OK, "True -1\n")
    assert len(nodes_of(sandbox.zygote_pid)) == 1


async def test_nothing_of_the_server_is_inherited(tree: Tree) -> None:
    """The fixture's sandbox was started by a process that had something to pass on."""
    result = await tree.run(None, _LOOK_AROUND)
    names = "HOME LC_ALL MKL_NUM_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS PYTHONHASHSEED TZ"
    assert result.stdout.splitlines() == [
        names,
        "[0, 1, 2, 3]",
        "/",
        "__main__ True",
        "[]",
        "SIGCHLD SIGPIPE SIGXFSZ",
        "set()",
    ]


_LOOK_AROUND = """
names = globals().keys() - {"__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"}
import os, signal, sys
def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
print(*sorted(os.environ))
print([descriptor for descriptor in range(1000) if is_open(descriptor)])
print(os.getcwd())
print(__name__, not names)
print([name for name in sys.modules if name.partition(".")[0] in ("sandbox", "asyncio", "server", "search")])
print(*sorted(number.name for number in signal.Signals if signal.getsignal(number) is signal.SIG_IGN))
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


async def test_steps_of_one_parent_do_not_see_each_other(tree: Tree) -> None:
    parent = await tree.run(None, "x = [1]\nimport math")
    left = await tree.run(parent.snapshot, "x.append(2)\nmath.pi = 3\ny = 1\nprint(x)")
    right = await tree.run(parent.snapshot, "print(x, math.pi, 'y' in globals())")
    below_left = await tree.run(left.snapshot, "print(x, math.pi, y)")
    assert left.stdout == "[1, 2]\n"
    assert right.stdout == "[1] 3.141592653589793 False\n"
    assert below_left.stdout == "[1, 2] 3 1\n"


async def test_trees_share_nothing_and_no_snapshots(sandbox: Sandbox, tree: Tree) -> None:
    first = await tree.run(None, "import sys, random\nrandom.leak = sys.leak = leaked = 1")
    async with sandbox.tree(seed=7) as other:
        result = await other.run(
            None, "import sys, random\nprint(hasattr(sys, 'leak'), hasattr(random, 'leak'), 'leaked' in globals())"
        )
        assert result.stdout == "False False False\n"
        with pytest.raises(SandboxMisuse):
            await other.run(first.snapshot, "1")


async def test_each_step_has_fresh_builtins_and_rebound_names(tree: Tree) -> None:
    spoilt = await tree.run(
        None,
        "import builtins, sys, time, os\nsum = 5\nbuiltins.len = builtins.print = builtins.zip = None\n"
        "time.thread_time = os.write = os._exit = sys.stdout = None\ndel __builtins__",
    )
    assert spoilt.outcome is Outcome.OK
    assert (await tree.run(spoilt.snapshot, "print(len('ab'), sum)")).stdout == "2 5\n"
    assert (await tree.run(None, "print(len('ab'), sum([1]))")).stdout == "2 1\n"


async def test_output_kept_across_steps_still_prints(tree: Tree) -> None:
    first = await tree.run(None, "import sys\nwrite = sys.stdout.write\nn = write('first ')")
    second = await tree.run(first.snapshot, "n = write('second')")
    assert (first.stdout, second.stdout) == ("first ", "second")


async def test_random_numbers_follow_from_tree_seed_and_path(sandbox: Sandbox) -> None:
    draw = "import random, numpy, sympy\nprint(random.random(), numpy.random.rand(), sympy.core.random.rng.random())"

    async def draws(seed: int) -> list[str]:
        async with sandbox.tree(seed=seed) as tree:
            first = await tree.run(None, draw)
            below = await tree.run(first.snapshot, draw)
            other = await tree.run(None, draw + "\n")
            replayed = await tree.run(first.snapshot, draw)
            assert replayed.stdout == below.stdout
            return [first.stdout, below.stdout, other.stdout]

    ones, again, twos = await draws(1), await draws(1), await draws(2)
    assert ones == again
    assert len({*ones, *twos}) == 6


@pytest.mark.slow
async def test_string_hashes_are_the_same_in_every_sandbox(tree: Tree) -> None:
    code = "print(hash('x'), {'alpha', 'beta', 'gamma', 'delta'})"
    async with Sandbox() as fresh, fresh.tree() as other:
        assert (await other.run(None, code)).stdout == (await tree.run(None, code)).stdout != ""


async def test_everyday_programs_work(tree: Tree) -> None:
    code = """
from dataclasses import dataclass
import colorsys, pickle, statistics, zoneinfo
@dataclass(frozen=True)
class Point:
    x: int
def f(n): return 1 if n == 0 else n * f(n - 1)
print(pickle.loads(pickle.dumps(Point(1))), f(20), statistics.mean([1, 2]), [Point(i).x for i in range(2)])
"""
    result = await tree.run(None, code)
    assert (result.outcome, result.stdout) == (Outcome.OK, "Point(x=1) 2432902008176640000 1.5 [0, 1]\n")


@pytest.mark.parametrize("before", ["", "import importlib\nimportlib.invalidate_caches()"])
async def test_modules_that_nobody_has_loaded_can_be_imported(tree: Tree, before: str) -> None:
    code = "import xml.sax.saxutils, wave, _lsprof, sympy.abc\nprint(wave.__name__, sympy.abc.x)"
    result = await tree.run(None, f"{before}\n{code}")
    assert (result.outcome, result.stdout) == (Outcome.OK, "wave x\n"), result
