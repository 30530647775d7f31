"""`python -m training`, and the benchmarks that draw problems, without the package that the extra train installs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_AS_AFTER_MAKE_INSTALL = """
import runpy, sys
sys.modules["reasoning_gym"] = None
name, sys.argv = sys.argv[1], sys.argv[1:]
run = runpy.run_path if name.endswith(".py") else runpy.run_module
run(name, run_name="__main__")
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _AS_AFTER_MAKE_INSTALL, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_help_needs_no_generator_and_explains_every_option() -> None:
    finished = _run("training", "evaluate", "--help")
    assert finished.returncode == 0, finished.stderr
    words = " ".join(finished.stdout.split())
    for expected in ("gsm_symbolic", "of each search", "drawn at each expansion", "policy's draws", "at once"):
        assert expected in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        pytest.param("training evaluate", 2, marks=pytest.mark.slow),
        pytest.param("benchmarks/engine_fill.py", 1, marks=pytest.mark.slow),
        pytest.param("benchmarks/parallel_rollouts.py", 1, marks=pytest.mark.slow),
        ("benchmarks/service_load.py", 1),
    ],
)
def test_a_missing_generator_is_reported_in_one_line(line: str, exit_code: int) -> None:
    finished = _run(*line.split())
    assert (finished.returncode, finished.stdout) == (exit_code, "")
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert "reasoning-gym" in finished.stderr
    assert "make dev" in finished.stderr
