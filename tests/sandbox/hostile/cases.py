"""Cases: the hostile snippets as data, read from `snippets/`, and the check of their outcomes.

Numbers up to 122 are those of the adversarial list that the sandbox was designed against; from 201 on they are further
attack classes, most of them named after the software that they broke (`origin`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import Limits, Outcome, StepResult

FOLDER = Path(__file__).parent
LIMITS = Limits(cpu_s=4, wall_s=20, memory_mb=256)
"""For cases that end by themselves, even on a slow and busy machine."""

HASTY = Limits(cpu_s=0.5, wall_s=3, memory_mb=256)
"""For those that are there to run into a deadline."""

_MAX_ERROR_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack and what must come of it."""

    number: int
    name: str
    kind: str
    """What it goes for: the name of its file."""
    steps: tuple[str, ...]
    """Run one after another; the judgement is about the last."""
    outcomes: frozenset[Outcome]
    earlier_outcomes: frozenset[Outcome]
    """A step before the last that ends otherwise than ok, but in one of these, ends the attack."""
    stdout: str | None = None
    """What an ok step must have printed; None where that does not matter."""
    value: str | None = None
    error: str | None = None
    """Pattern for the message of a step that ended in an error."""
    after: str = "raise ValueError(6 * 7)"
    """Run afterwards in the state before the attack. By default without leaving a snapshot."""
    after_stdout: str | None = None
    wait_s: float = 0.0
    """Time between the steps."""
    is_slow: bool = False
    """Runs into a deadline: worth running beside another case."""
    origin: str | None = None

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.name.replace(' ', '-')}"


def load_cases() -> list[Case]:
    """Every case, by number."""
    found: list[Case] = []
    for path in sorted((FOLDER / "snippets").glob("*.toml")):
        with path.open("rb") as file:
            found += [_case(entry, kind=path.stem) for entry in tomllib.load(file)["case"]]
    return sorted(found, key=lambda case: case.number)


def prelude(given: Mapping[str, object]) -> str:
    """The step before every snippet: the prelude and the given names."""
    text = (FOLDER / "prelude.py").read_text(encoding="utf-8")
    return text + "".join(f"{name} = {value!r}\n" for name, value in given.items())


def judge(case: Case, results: Sequence[StepResult]) -> list[str]:
    """What is wrong with the results of a case's steps; nothing, if all is as it must be."""
    *earlier, last = results
    complaints = [f"step {n}: {result}" for n, result in enumerate(earlier, 1) if result.outcome is not Outcome.OK]
    complaints += [f"more output than allowed: {result!s:.500}" for result in results if _is_too_long(result)]
    complaints += [f"spent less than no time: {result!s:.500}" for result in results if result.cpu_seconds < 0]
    is_last = len(results) == len(case.steps)
    allowed = case.outcomes if is_last else case.earlier_outcomes
    if Outcome.TIMEOUT_CPU in allowed:
        allowed |= {Outcome.TIMEOUT_WALL}  # on a machine as busy as that, the wall comes first
    if last.outcome not in allowed:
        complaints.append(f"expected {' or '.join(sorted(allowed))}: {last!s:.500}")
    elif is_last and last.outcome is Outcome.OK:
        if case.stdout not in (None, last.stdout):
            complaints.append(f"printed {last.stdout!r:.500} instead of {case.stdout!r}")
        if case.value not in (None, last.value):
            complaints.append(f"left {last.value!r:.500} instead of {case.value!r}")
    elif last.outcome is Outcome.ERROR and case.error and not re.search(case.error, last.error or ""):
        complaints.append(f"failed otherwise than expected: {last.error!r:.500}")
    return complaints


def _is_too_long(result: StepResult) -> bool:
    return len(result.stdout.encode()) > LIMITS.output_bytes or len((result.error or "").encode()) > _MAX_ERROR_BYTES


def _case(entry: dict[str, Any], *, kind: str) -> Case:
    steps = entry.get("steps") or [entry["code"] * entry.get("repeat", 1)]
    optional = {"stdout", "value", "error", "after", "after_stdout", "wait_s", "origin"}
    case = Case(
        number=entry["number"],
        name=entry["name"],
        kind=kind,
        steps=tuple(steps),
        outcomes=frozenset(map(Outcome, entry.get("outcome", ["ok"]))),
        earlier_outcomes=frozenset(map(Outcome, entry.get("first_outcome", ["ok"]))),
        is_slow=entry.get("slow", False),
        **{name: entry[name] for name in optional & entry.keys()},
    )
    if case.outcomes == frozenset({Outcome.ERROR}):
        assert case.error is not None, f"{case}: an error for the wrong reason must not pass"
    if case.outcomes == frozenset({Outcome.OK}):
        said = (case.stdout, case.value, case.after_stdout)
        assert said != (None, None, None), f"{case}: says nothing of what the attack must not have reached"
    return case
