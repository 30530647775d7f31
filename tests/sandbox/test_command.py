"""`python -m sandbox`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def _sandbox(*arguments: str, level: str = "full") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *arguments]
    environment = {**os.environ, "RSTAR_SANDBOX_MIN_LEVEL": level}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=100)


def test_run_prints_outcome_and_output(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('é', 10**22 + 1)\n6 * 7")
    finished = _sandbox("run", str(program))
    assert finished.returncode == 0
    assert finished.stdout == "outcome: ok\noutput:\né 10000000000000000000001\nvalue: 42\n"


@pytest.mark.slow
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


@pytest.mark.slow
def test_doctor_tells_level_protections_and_limits() -> None:
    finished = _sandbox("doctor")
    assert finished.returncode == 0
    lines = finished.stdout.splitlines()
    assert lines[0] == "level: full (wanted: full)"
    available, kept, rest = (part.splitlines() for part in finished.stdout.split("\n\n")[1:])
    assert available == ["Available to steps", "  works          ordinary steps", "  works          late imports"]
    assert kept[0] == "Kept from steps, and the layers that keep it"
    assert {line.split(maxsplit=1)[0] for line in kept[1:]} == {"held"}
    names = {line.split(maxsplit=1)[1] for line in kept[1:]}
    assert {"processes", "network", "time limit", "seccomp", "namespaces", "Landlock"} <= names
    assert [line.split(":")[0] for line in rest] == [
        "fork gate",
        "Landlock version",
        "libraries not installed",
        "limits of a step",
        "limits of snapshots",
    ]


@pytest.mark.parametrize("level", ["none", "", "most"])
def test_an_unknown_wanted_level_is_refused(level: str) -> None:
    finished = _sandbox("doctor", level=level)
    assert finished.returncode == 2
    assert finished.stderr == f"sandbox: RSTAR_SANDBOX_MIN_LEVEL must be full or reduced, not {level!r}\n"


@pytest.mark.slow
def test_bench_compares_depths_with_a_fresh_interpreter() -> None:
    finished = _sandbox("bench")
    assert finished.returncode == 0
    assert [line.split("  ")[0] for line in finished.stdout.splitlines()[1:]] == [
        "fresh interpreter",
        "snapshot, depth 1",
        "snapshot, depth 4",
        "snapshot, depth 16",
    ]
