"""Preload: what every step finds loaded already, and warm, so that no step pays for it."""

import importlib
import os
import site
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, all_suffixes
from importlib.util import spec_from_file_location
from types import ModuleType

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


def preload(packages: dict[str, str]) -> list[str]:
    """Load and warm; `packages` are the folders of those installed. Returns the names of what could not be loaded."""
    finder = _OnlyThese(packages)
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
    _add_interactive_names()
    return missing


class _OnlyThese:
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


def remember(folders: Sequence[str]) -> None:
    """Find modules in these folders, of `sys.path`, by a listing made now.

    Landlock's rules have no exceptions: a folder that holds a hidden one cannot be listed by a step, though the files
    in it can be read. Python's own finder knows nothing any more once a step has it look again.
    """
    for folder in folders:
        sys.path_importer_cache[folder] = _Listed(folder)  # a finder by protocol


class _Listed:
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


def _add_interactive_names() -> None:
    """`exit` and its like: the interpreter was started without `site`, as that runs hooks of installed packages."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
