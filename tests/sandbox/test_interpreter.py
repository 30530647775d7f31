"""How a step runs: every outcome, and exactly what Python prints."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox import Limits, Outcome, Sandbox, Tree

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAILURES = {
    "raise Exception('boom')": (Outcome.ERROR, "Exception: boom"),
    "print(undefined)": (Outcome.ERROR, "NameError: name 'undefined' is not defined"),
    "def": (Outcome.ERROR, "SyntaxError: invalid syntax (<step 1>, line 1)"),
    "import sys; sys.exit(0)": (Outcome.ERROR, "SystemExit: 0"),
    "exit()": (Outcome.ERROR, "SystemExit: None"),
    "raise KeyboardInterrupt": (Outcome.ERROR, "KeyboardInterrupt"),
    "input()": (Outcome.ERROR, "EOFError: EOF when reading a line"),
    "from sympy import mod_inverse; mod_inverse(2, 4)": (
        Outcome.ERROR,
        "ValueError: inverse of 2 (mod 4) does not exist",
    ),
    "class E(Exception):\n    def __str__(self): 1 / 0\nraise E": (Outcome.ERROR, "E: (message cannot be shown)"),
    "x = bytearray(8 << 30)": (Outcome.MEMORY, "MemoryError"),
    "x = []\nwhile True: x.append(bytearray(1 << 20))": (Outcome.MEMORY, "MemoryError"),
    "while True: print('x' * 100)": (Outcome.OUTPUT_LIMIT, "more than 16384 bytes printed"),
    "print('x' * 10**7)": (Outcome.OUTPUT_LIMIT, "more than 16384 bytes printed"),
    "for _ in range(300):\n    try: print('x' * 100)\n    except BaseException: pass": (
        Outcome.OUTPUT_LIMIT,
        "more than 16384 bytes printed",
    ),
    "import ctypes; ctypes.string_at(0)": (Outcome.CRASHED, "killed by SIGSEGV"),
    "import os; os._exit(0)": (Outcome.CRASHED, "exited with code 0 and no report"),
    "import os; os._exit(7)": (Outcome.CRASHED, "exited with code 7 and no report"),
    "import os; os.write(3, b'forged'); os._exit(0)": (Outcome.VIOLATION, "malformed report"),
    "import os; os.write(3, b''); os._exit(0)": (Outcome.VIOLATION, "malformed report"),
    "import os; os.write(3, b''); [].append('x' * 10**9)": (Outcome.VIOLATION, "malformed report"),
    "#" * 70000: (Outcome.VIOLATION, "the code has 70000 bytes, more than 65536"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty() -> AsyncIterator[Sandbox]:
    """With a short CPU limit, and a wall that no busy machine reaches before it."""
    async with Sandbox(limits=Limits(cpu_s=0.5, wall_s=60)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        pytest.param("10 ** 10 ** 10", marks=pytest.mark.slow),
        pytest.param(
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass", marks=pytest.mark.slow
        ),
    ],
)
async def test_an_endless_step_ends_at_the_cpu_limit(hasty: Sandbox, code: str) -> None:
    async with hasty.tree() as tree:
        result = await tree.run(None, code)
    assert (result.outcome, result.error) == (Outcome.TIMEOUT_CPU, "more than 0.5 s of CPU time")
    assert (result.value, result.snapshot) == (None, None)


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code[:40])
async def test_a_failing_step_has_its_typed_outcome_and_no_snapshot(tree: Tree, code: str) -> None:
    result = await tree.run(None, code)
    assert (result.outcome, result.error) == FAILURES[code]
    assert result.snapshot is None
    assert result.value is None


@pytest.mark.slow
async def test_a_sleeping_step_ends_at_the_wall_clock_limit() -> None:
    async with Sandbox(limits=Limits(wall_s=0.3)) as sandbox, sandbox.tree() as tree:
        result = await tree.run(None, "import time; time.sleep(60)")
    assert (result.outcome, result.error) == (Outcome.TIMEOUT_WALL, "more than 0.3 s of wall-clock time")


@pytest.mark.parametrize(
    ("code", "stdout"),
    {
        "print(10**22 + 1)": "10000000000000000000001\n",
        "print(0.0000123, 1e300, 1/3)": "1.23e-05 1e+300 0.3333333333333333\n",
        "print('standard error')": "standard error\n",
        "print('a', end='')\nprint()\nprint('  b ')": "a\n  b \n",
        "try:\n    print('inside')\nfinally:\n    x = 1": "inside\n",
        "print(1)\nprint(2)\nx = 3": "1\n2\n",
        "import sys\nwrite = sys.stdout.write\nn = write('x\\r\\ny\\n')": "x\r\ny\n",
        "import sys\nsys.stdout.buffer.write(b'raw')": "raw",
        "print('é∑\\ud800')": "é∑?\n",
        "from fractions import Fraction\nprint(Fraction(1, 3), {2, 1}, None)": "1/3 {1, 2} None\n",
    }.items(),
)
async def test_output_is_kept_exactly(tree: Tree, code: str, stdout: str) -> None:
    result = await tree.run(None, code)
    assert (result.outcome, result.stdout, result.error) == (Outcome.OK, stdout, None)


@pytest.mark.parametrize(
    ("code", "value"),
    {
        "10**30": "1000000000000000000000000000000",
        "'text'": "'text'",
        "from sympy import *\nx = symbols('x')\nsolve(x**2 - 2, x)": "[-sqrt(2), sqrt(2)]",
        "import numpy as np\nnp.float64(0.5)": "np.float64(0.5)",
        "None": None,
        "print(1)": None,
        "x = 5": None,
        "": None,
        "# only a comment": None,
        "x = 5; x;": "5",
    }.items(),
)
async def test_the_last_expression_gives_the_value(tree: Tree, code: str, value: str | None) -> None:
    result = await tree.run(None, code)
    assert (result.outcome, result.value) == (Outcome.OK, value)


async def test_no_statement_runs_twice_even_if_the_last_one_fails(tree: Tree) -> None:
    counted = await tree.run(
        None, "calls = []\ndef f():\n    calls.append(1)\n    print('called')\n    return len(calls)\nf()"
    )
    assert (counted.stdout, counted.value) == ("called\n", "1")
    failed = await tree.run(counted.snapshot, "f()\nf() / 0")
    assert (failed.stdout, failed.error) == ("called\ncalled\n", "ZeroDivisionError: division by zero")


async def test_output_before_a_failure_is_kept(tree: Tree) -> None:
    result = await tree.run(None, "print('before')\n1 / 0")
    assert (result.outcome, result.stdout) == (Outcome.ERROR, "before\n")


async def test_too_long_integers_fail_as_in_plain_python(tree: Tree) -> None:
    for code in ("print(10**5000)", "10**5000"):
        result = await tree.run(None, code)
        assert result.outcome is Outcome.ERROR
        assert result.error is not None
        assert result.error.startswith("ValueError: Exceeds the limit (4300 digits)")


async def test_long_values_and_messages_are_cut_between_characters(tree: Tree) -> None:
    result = await tree.run(None, "'é' * 20000")
    assert result.value == "'" + "é" * 8191
    result = await tree.run(None, "raise ValueError('é' * 20000)")
    assert result.error is not None
    assert len(result.error.encode()) <= 1000


async def test_cpu_seconds_are_those_of_the_step_alone(tree: Tree) -> None:
    heavy = await tree.run(None, "import time\nwhile time.process_time() < 0.3: pass")
    light = await tree.run(heavy.snapshot, "x = 1")
    assert heavy.cpu_seconds > 0.1
    assert light.cpu_seconds < heavy.cpu_seconds / 2


async def test_a_step_that_closes_its_socket_is_killed(tree: Tree) -> None:
    for _ in range(5):
        result = await tree.run(None, "import os; os.closerange(0, 64)")
        assert result.outcome is Outcome.CRASHED
        # Whichever is first: the news that the socket is closed, or the node's finding that it cannot report.
        assert result.error in {"ended without a report", "exited with code 1 and no report"}


@pytest.mark.parametrize("code", ["import os; os.closerange(0, 64)", "import os; os._exit(3)", "x = 1 / 0", "os = 1"])
async def test_no_step_spends_less_than_no_time(tree: Tree, code: str) -> None:
    spent = await tree.run(None, "import time\nwhile time.thread_time() < 0.05: pass")
    for _ in range(5):
        assert (await tree.run(spent.snapshot, code)).cpu_seconds >= 0.0
