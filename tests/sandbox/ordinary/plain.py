"""Plain: runs programs as plain Python would, unconfined; for comparison only.

    python plain.py < programs.json > results.json

Reads {name: [step, ...]}, writes {name: [stdout, value or null, error or null]}. A program is its steps joined; its
value is the `repr` of the last statement where that is an expression. Each runs in a process of its own, so that none
leaves its settings to the next; sympy and numpy are loaded once for all.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import sys
import types

Behaviour = tuple[str, str | None, str | None]


def run(source: str) -> Behaviour:
    """What a program printed, its last value, and the type of what it raised."""
    module = ast.parse(source)
    last = module.body.pop() if module.body and isinstance(module.body[-1], ast.Expr) else None
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    value = error = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(module, "<program>", "exec", dont_inherit=True), main.__dict__)
            if isinstance(last, ast.Expr):
                found = eval(compile(ast.Expression(last.value), "<program>", "eval", dont_inherit=True), main.__dict__)
                value = None if found is None else repr(found)
        except Exception as raised:  # noqa: BLE001  # a program's failure is its result
            error = type(raised).__name__
    return printed.getvalue(), value, error


def run_apart(source: str) -> Behaviour:
    """`run`, in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(run(source), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        stdout, value, error = json.load(pipe)
    os.waitpid(child, 0)
    return stdout, value, error


if __name__ == "__main__":
    for library in ("mpmath", "numpy", "sympy"):
        importlib.import_module(library)
    programs: dict[str, list[str]] = json.load(sys.stdin)
    json.dump({name: run_apart("\n".join(steps)) for name, steps in programs.items()}, sys.stdout)
