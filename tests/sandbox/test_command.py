"""`python -m sandbox`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def _sandbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_run_prints_outcome_and_output(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('é', 10**22 + 1)\n6 * 7")
    finished = _sandbox("run", str(program))
    assert finished.returncode == 0
    assert finished.stdout == "outcome: ok\noutput:\né 10000000000000000000001\nvalue: 42\n"


def test_run_as_json_tells_a_failure(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('half')\n1 / 0")
    finished = _sandbox("run", str(program), "--json")
    assert finished.returncode == 1
    result = json.loads(finished.stdout)
    assert result.pop("cpu_seconds") >= 0
    assert result == {
        "outcome": "error",
        "stdout": "half\n",
        "value": None,
        "error": "ZeroDivisionError: division by zero",
    }


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    finished = _sandbox("run", str(tmp_path / "none.py"))
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["processes", "network", "signals", "file writing", "limits"])
def test_doctor_lists_the_protections(name: str, doctor: str) -> None:
    assert f"on   {name}\n" in doctor


@pytest.fixture(scope="module")
def doctor() -> str:
    finished = _sandbox("doctor")
    assert finished.returncode == 0
    return finished.stdout
