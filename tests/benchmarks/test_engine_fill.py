"""Engine fill on fakes: the slots are full, and searches that wait for others are slower."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_slots_stay_full_and_waiting_costs_time(tmp_path: Path) -> None:
    report = tmp_path / "fill.json"
    command = [sys.executable, "benchmarks/engine_fill.py", "--quick", "--json", str(report)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(report.read_text(encoding="utf-8"))
    assert figures["simulated/16_requests/in_flight/slot_fill"] >= 0.9
    assert figures["simulated/1_requests/one_at_a_time/times_as_slow"] > 2
    assert figures["simulated/16_requests/one_at_a_time/times_as_slow"] > 2
    assert figures["simulated/16_requests/lock_step/times_as_slow"] > 1.25
    assert figures["our_python/us_per_node"] > 0
