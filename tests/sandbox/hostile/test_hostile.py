"""The hostile suite: every attack in every setting. Without the filter the suite must fail, else it detects nothing.

One run of the command per setting does all attacks; a test looks at one of them. All settings together are slow; the
run of a sample is fast.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.hostile.cases import Case, load_cases
from tests.sandbox.hostile.configurations import EXIT_UNAVAILABLE, Configuration
from tests.sandbox.hostile.identity import EXIT_NO_USER
from tests.sandbox.hostile.races import RACES, Race

ROOT = Path(__file__).parent.parent.parent.parent
CASES = load_cases()
ATTACKS: list[Case | Race] = sorted([*CASES, *RACES], key=lambda attack: attack.number)

SETTINGS: dict[str, list[str]] = {
    "as-root": [Configuration.ALL],
    "as-user": [Configuration.ALL, "--ordinary-user"],
    "no-namespaces": [Configuration.NO_NAMESPACES],
    "no-landlock": [Configuration.NO_LANDLOCK],
    "no-notification": [Configuration.NO_NOTIFICATION],
}
FIRST = "as-root" if os.geteuid() == 0 else "as-user"
"""The setting of the user who runs the tests: it must be possible on every machine."""

CONTROL: list[str] = [Configuration.NO_FILTER]
MUST_GET_THROUGH = {19, 24, 30, 31, 38, 59}
"""Nothing but the filter stands against these."""
LEAST_THAT_GET_THROUGH = 20

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of the command said."""

    exit_code: int
    stderr: str
    complaints: dict[int, list[str]]
    """By the number of the attack."""


_SAMPLE_PER_KIND = 3


def _sample() -> list[Case | Race]:
    """Of each kind some that run into no deadline, from its whole length: of the first list and of what came after."""
    found: list[Case | Race] = []
    for kind in sorted({attack.kind for attack in ATTACKS}):
        quick = [attack for attack in ATTACKS if attack.kind == kind and not attack.is_slow]
        found += quick[:: max(1, len(quick) // _SAMPLE_PER_KIND)][:_SAMPLE_PER_KIND]
    return found


SAMPLE = _sample()
QUICK: list[str] = [Configuration.ALL, "--only", ",".join(str(attack.number) for attack in SAMPLE)]

Runner = Callable[[list[str]], Run]


@pytest.fixture(scope="session")
def run_of() -> Runner:
    """Runs the command, once for the same arguments."""
    runs: dict[tuple[str, ...], Run] = {}

    def run(arguments: list[str]) -> Run:
        key = tuple(arguments)
        if key not in runs:
            runs[key] = _drive(arguments)
        return runs[key]

    return run


def _drive(arguments: list[str]) -> Run:
    command = [sys.executable, "-B", "-m", "tests.sandbox.hostile", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=800
    )
    results = [json.loads(line) for line in finished.stdout.splitlines()]
    complaints = {entry["number"]: entry["complaints"] for entry in results}
    return Run(exit_code=finished.returncode, stderr=finished.stderr[-3000:], complaints=complaints)


def _possible_run(run_of: Runner, setting: str) -> Run:
    """The setting's run; skips where this machine cannot give it."""
    if setting == "as-root" and os.geteuid() != 0:
        pytest.skip("only root can test what the sandbox does under root")
    run = run_of(SETTINGS[setting])
    if setting != FIRST and run.exit_code == EXIT_UNAVAILABLE:
        pytest.skip(f"impossible on this machine: {run.stderr}")
    if run.exit_code == EXIT_NO_USER and "CI" not in os.environ:
        pytest.skip(f"no ordinary user can run this interpreter: {run.stderr}")
    return run


@pytest.mark.parametrize("attack", SAMPLE, ids=str)
def test_an_attack_of_the_sample_achieves_nothing(run_of: Runner, attack: Case | Race) -> None:
    run = run_of(QUICK)
    assert attack.number in run.complaints, f"the command ended before this attack: {run.stderr}"
    assert run.complaints[attack.number] == []


def test_the_sample_leaves_nothing_behind(run_of: Runner) -> None:
    run = run_of(QUICK)
    assert (run.exit_code, run.complaints.get(0)) == (0, []), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_attack_achieves_nothing(run_of: Runner, setting: str, attack: Case | Race) -> None:
    run = _possible_run(run_of, setting)
    assert attack.number in run.complaints, f"the command ended before this attack: {run.stderr}"
    assert run.complaints[attack.number] == []


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_suite_leaves_nothing_behind(run_of: Runner, setting: str) -> None:
    run = _possible_run(run_of, setting)
    assert (run.exit_code, run.complaints.get(0)) == (0, []), run.stderr


@pytest.mark.slow
def test_without_the_filter_attacks_get_through(run_of: Runner) -> None:
    run = run_of(CONTROL)
    got_through = {number for number, complaints in run.complaints.items() if complaints}
    assert got_through >= MUST_GET_THROUGH, run.stderr
    assert len(got_through) >= LEAST_THAT_GET_THROUGH


def test_the_whole_list_is_there() -> None:
    numbers = [attack.number for attack in ATTACKS]
    assert len(numbers) == len(set(numbers))
    assert set(range(1, 123)) <= set(numbers)
    assert sum(number > 200 for number in numbers) >= 40
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_the_sample_holds_every_kind_of_attack() -> None:
    assert {attack.kind for attack in SAMPLE} == {attack.kind for attack in ATTACKS}
    assert len(SAMPLE) == len({attack.number for attack in SAMPLE}) == 3 * 10
