"""Runs `python -m` commands one after the other in one process, so that modules are imported only once.

Reads a JSON list of runs from stdin and prints one of what each printed and its exit code. Only for commands that end
before they start anything: help, settings, refusals, replays.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback


def main() -> None:
    """Each run has a module, arguments and environment variables."""
    ends = [_run(run["module"], run["arguments"], run["environment"]) for run in json.load(sys.stdin)]
    json.dump(ends, sys.stdout)


def _run(module: str, arguments: list[str], environment: dict[str, str]) -> dict[str, object]:
    kept = dict(os.environ)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    # A command asserts that nothing has imported torch before it; an earlier run of this process may have.
    sys.modules.pop("torch", None)
    code: object = 0
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = ended.code or 0
        except Exception:  # noqa: BLE001  # as the interpreter itself ends
            traceback.print_exc()
            code = 1
    os.environ.clear()
    os.environ.update(kept)
    return {"exit_code": code, "stdout": output.getvalue(), "stderr": errors.getvalue()}


if __name__ == "__main__":
    main()
