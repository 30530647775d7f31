"""Interpreter: the state that steps run in, the preloaded modules, and the run of one step.

Made in the zygote, once; each node has its parent's copy by the fork. It shares its memory with hostile code: after a
step has run, only names bound beforehand and C-level methods are used until the builtins are restored. A step can forge
only its own report and those of its descendants.
"""

import builtins
import importlib
import io
import os
import random
import site
import sys
import time
from ast import Expr, Expression, Module, PyCF_ONLY_AST
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, all_suffixes
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import BinaryIO, cast

from sandbox.wire import MAX_ERROR_BYTES, Report, ReportStatus, cut

_STANDARD = (
    "math cmath fractions decimal itertools functools operator statistics random datetime calendar time collections "
    "collections.abc heapq bisect re string textwrap copy dataclasses enum typing types abc json contextlib io array "
    "numbers queue inspect traceback warnings pprint struct hashlib"
).split()

# numpy and sympy load parts of themselves on first use: those that solutions use are named, or every step would pay.
_INSTALLED = (
    "mpmath numpy numpy.linalg numpy.random numpy.polynomial numpy.fft sympy sympy.geometry sympy.ntheory sympy.stats "
    "sympy.combinatorics sympy.core.random sympy.solvers.diophantine sympy.calculus.util sympy.parsing.sympy_parser"
).split()

_WARM_UP = """
import sympy
x, y = sympy.symbols("x y")
n = sympy.symbols("n", integer=True, positive=True)
sympy.solve(x**2 - 5 * x + 6, x), sympy.solve([x + y - 3, x - y - 1], [x, y]), sympy.solveset(x**2 - 2, x)
sympy.integrate(x**2 * sympy.sin(x), (x, 0, 1)), sympy.diff(sympy.exp(x) * x, x), sympy.limit(sympy.sin(x) / x, x, 0)
sympy.simplify((x**2 - 1) / (x - 1)), sympy.factor(x**3 - 1), sympy.expand((x + y) ** 3), sympy.apart(1 / (x**2 - 1))
sympy.nsolve(sympy.cos(x) - x, 1), sympy.summation(n, (n, 1, 10)), sympy.Rational(1, 3).evalf(), sympy.sqrt(8)
sympy.factorint(360), sympy.isprime(97), sympy.primerange(1, 20), sympy.Matrix([[1, 2], [3, 4]]).inv()
sympy.Poly(x + 1), sympy.Rational(1, 3) + 1, sympy.pi.evalf(30)
str(sympy.pi * x / 2), sympy.latex(x), sympy.nsimplify(0.5), sympy.binomial(5, 2), sympy.gcd(4, 6), sympy.N(sympy.pi)
"""

_RESERVE_BYTES = 1 << 20
"""Given back to a step that ran out of memory, so that it can say so."""


def preload(packages: dict[str, str]) -> list[str]:
    """Load what steps use, and warm it up, so that no step pays for it.

    `packages`: the folders of those installed, by name. Returns the names of the modules that could not be loaded.
    """
    finder = _PackageFinder(packages)
    sys.meta_path.append(finder)
    missing: list[str] = []
    try:
        for name in (*_STANDARD, *_INSTALLED):
            try:
                importlib.import_module(name)
            except ImportError:
                missing.append(name)
        if "sympy" in sys.modules:
            exec(compile(_WARM_UP, "<warm-up>", "exec"), {"__name__": "__main__"})
    finally:
        sys.meta_path.remove(finder)
    # `exit` and its like: the interpreter was started without `site`, as that runs hooks of installed packages.
    site.setquit()
    site.setcopyright()
    site.sethelper()
    return missing


class _PackageFinder:
    """Finds these packages and nothing that is installed beside them, optional accelerators included."""

    def __init__(self, packages: dict[str, str]) -> None:
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = self._packages.get(fullname)
        if folder is None:
            return None
        return spec_from_file_location(fullname, f"{folder}/__init__.py", submodule_search_locations=[folder])


def list_modules(folders: Sequence[str]) -> None:
    """From now on find modules in these folders, of `sys.path`, by a listing made now.

    Landlock's rules have no exceptions: a folder that holds a hidden one cannot be listed by a step, though the files
    in it can be read. Python's own finder knows nothing any more once a step has it look again.
    """
    for folder in folders:
        sys.path_importer_cache[folder] = _ListedFinder(folder)  # a finder by protocol


class _ListedFinder:
    """Finds modules among the names that a folder had when this was made."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names = frozenset(os.listdir(folder))

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        name = fullname.rpartition(".")[2]
        path = f"{self._folder}/{name}"
        if name in self._names and os.path.isfile(f"{path}/__init__.py"):
            return spec_from_file_location(fullname, f"{path}/__init__.py", submodule_search_locations=[path])
        for suffix in all_suffixes():
            if name + suffix in self._names:
                return spec_from_file_location(fullname, path + suffix)
        return None


class OutputLimitReached(BaseException):
    """Raised in a step that prints more than the cap. Not an Exception: few steps catch it by accident."""


class _Output(io.BufferedIOBase):
    """Collects printed text, up to a cap."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.kept = bytearray()
        self.is_over = False

    def writable(self) -> bool:
        return True

    def write(self, chunk: object, /) -> int:
        view = memoryview(chunk)  # pyright: ignore[reportArgumentType]  # a step may pass any type; the TypeError is its own
        room = self.max_bytes - len(self.kept)
        self.kept += view[:room]
        if view.nbytes > room:
            self.is_over = True
            raise OutputLimitReached(f"more than {self.max_bytes} bytes printed")
        return view.nbytes


class Interpreter:
    """The state a path's steps share: `__main__`, its globals and standard output.

    Made once, in the zygote, so that no node need make it; each node has its parent's copy by the fork.
    """

    def __init__(self) -> None:
        self._main = ModuleType("__main__")
        sys.modules["__main__"] = self._main
        self._builtins = builtins.__dict__
        self._fresh_builtins = dict(builtins.__dict__)
        self._seeders = _seeders()
        self._clock = time.thread_time
        self._reserve = bytes(0)
        self._count = 0
        self._open_output(0)

    def limit_output(self, max_bytes: int) -> None:
        """Set how much of a step's output is kept."""
        self._output.max_bytes = max_bytes

    def restore_builtins(self) -> None:
        """Undo what a step did to `len` or `print`."""
        self._builtins.clear()
        self._builtins.update(self._fresh_builtins)

    def run(self, seed: int, code: str) -> Report:
        """Run one step in the state that earlier steps left; every way it can end becomes a report."""
        self._begin(seed)
        failure: BaseException | None = None
        value: str | None = None
        started = self._clock()
        try:
            value = self._execute(code)
            self._stdout.flush()
        except BaseException as raised:  # noqa: BLE001  # SystemExit and KeyboardInterrupt are results like any other
            failure = raised
        cpu_seconds = self._clock() - started
        self._builtins.update(self._fresh_builtins)
        if failure is not None:
            return self._report_failure(failure, cpu_seconds)
        # A step that swallowed `OutputLimitReached` is still over the limit.
        status = ReportStatus.OUTPUT_LIMIT if self._output.is_over else ReportStatus.OK
        return Report(status, cpu_seconds, self._printed(), value, None)

    def _begin(self, seed: int) -> None:
        self.restore_builtins()
        self._main.__dict__["__builtins__"] = builtins
        self._count += 1
        self._reserve = bytes(_RESERVE_BYTES)  # zeroed by the kernel, and only when touched
        if self._stdout.closed:
            self._open_output(self._output.max_bytes)
        # Emptied, not replaced: a step may have kept `write = sys.stdout.write`.
        self._output.kept.clear()
        self._output.is_over = False
        sys.stdout = self._stdout
        for seeder in self._seeders:
            seeder(seed)

    def _execute(self, code: str) -> str | None:
        """Run the statements, each once. If the last one is an expression, it gives the value."""
        name = f"<step {self._count}>"
        module = compile(code, name, "exec", PyCF_ONLY_AST, dont_inherit=True)
        assert isinstance(module, Module)
        last = module.body[-1] if module.body else None
        expression = last.value if isinstance(last, Expr) else None
        if expression is not None:
            module.body.pop()
        namespace = self._main.__dict__
        exec(compile(module, name, "exec", dont_inherit=True), namespace)
        # From here on the step may have replaced any builtin; the ones used below then fail as part of the step.
        if expression is None:
            return None
        value = eval(compile(Expression(expression), name, "eval", dont_inherit=True), namespace)
        return None if value is None else cut(repr(value), self._output.max_bytes)

    def _report_failure(self, failure: BaseException, cpu_seconds: float) -> Report:
        failure.__traceback__ = None  # its frames hold the step's memory
        if isinstance(failure, MemoryError):
            self._reserve = bytes(0)
        message = _describe(failure)
        status = ReportStatus.MEMORY if isinstance(failure, MemoryError) else ReportStatus.ERROR
        try:
            if not self._output.is_over:
                self._stdout.flush()
        except OutputLimitReached as overflow:
            message = str(overflow)
        except ValueError:
            pass  # the step closed its output: the text printed before is kept
        if self._output.is_over:
            status = ReportStatus.OUTPUT_LIMIT
        return Report(status, cpu_seconds, self._printed(), None, message)

    def _printed(self) -> str:
        return bytes(self._output.kept).decode("utf-8", "ignore")

    def _open_output(self, max_bytes: int) -> None:
        self._output = _Output(max_bytes)
        self._stdout = io.TextIOWrapper(cast(BinaryIO, self._output), encoding="utf-8", errors="replace", newline="\n")


def _seeders() -> list[Callable[[int], object]]:
    """Functions that seed process-wide random states. Generators that a step makes itself are left alone."""
    seeders: list[Callable[[int], object]] = [random.seed]  # noqa: TID251  # the steps' generator, not ours
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_seed: Callable[[int], object] = numpy_random.seed
        seeders.append(lambda seed: numpy_seed(seed & 0xFFFFFFFF))
    if sympy_random := sys.modules.get("sympy.core.random"):
        seeders.append(sympy_random.seed)
    return seeders


def _describe(failure: BaseException) -> str:
    """`Type: message`, as the last line of a traceback."""
    name = type(failure).__name__
    try:
        return cut(f"{name}: {failure}".removesuffix(": "), MAX_ERROR_BYTES)
    except BaseException:  # noqa: BLE001  # `__str__` is the step's code
        return f"{name}: (message cannot be shown)"
