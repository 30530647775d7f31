"""A short soak: a few steps pass the checks of `benchmarks/sandbox_soak.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STEPS, TREES = 400, 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_steps_and_hostile_ones_among_them_leave_nothing_behind(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    size = ["--steps", str(STEPS), "--trees", str(TREES), "--hostile", "0.08"]
    command = [sys.executable, "benchmarks/sandbox_soak.py", *size, "--json", str(report)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert report.exists(), finished.stderr
    figures = json.loads(report.read_text(encoding="utf-8"))
    leaked = {name: value for name, value in figures.items() if name.startswith("leaked/") and "_mb" not in name}
    assert leaked == dict.fromkeys(leaked, 0), finished.stdout
    wrong = {name: value for name, value in figures.items() if name.startswith("wrong/")}
    assert wrong == dict.fromkeys(wrong, 0), finished.stderr
    assert finished.returncode == 0, finished.stdout
    assert (figures["steps"], figures["trees"]) == (STEPS, TREES)
    assert sum(value for name, value in figures.items() if name.startswith("outcomes/")) == STEPS
    assert figures["steps/hostile"] >= 16  # every attack at least once
    assert figures["evictions"] > 0
    assert figures["replayed_steps"] > 0
