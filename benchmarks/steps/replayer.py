"""Replayer: runs every prefix of a chain by `exec`, in one process and without isolation. For comparison only.

Published solvers work like this. They run the whole path again for each step, in a fresh namespace. Libraries stay
loaded, and their caches stay warm from one path to the next. Reads a JSON list of steps a line, answers with one JSON
line.
"""

import contextlib
import importlib
import io
import json
import sys
import time
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    for library in ("numpy", "sympy"):
        importlib.import_module(library)
    for line in sys.stdin:
        steps: list[str] = json.loads(line)
        reply: dict[str, list[Any]] = {"cpu_s": [], "wall_s": [], "printed": []}
        for depth in range(1, len(steps) + 1):
            began_s, began_cpu_s = time.perf_counter(), time.thread_time()
            reply["printed"].append(_run(steps[:depth]))
            reply["cpu_s"].append(time.thread_time() - began_cpu_s)
            reply["wall_s"].append(time.perf_counter() - began_s)
        print(json.dumps(reply), flush=True)


def _run(steps: list[str]) -> str:
    namespace: dict[str, object] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for step in steps:
            exec(step, namespace)
    return printed.getvalue()


if __name__ == "__main__":
    main()
