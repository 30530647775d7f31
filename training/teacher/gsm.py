"""gsm_symbolic: fills each story's program with the numbers of the problem at hand."""

import re
from collections.abc import Mapping

from training.teacher.gsm_programs import PROGRAMS
from training.teacher.solution import Step, Strategy, flawed, right, show

_STOPS_EARLY_EVERY = 4
"""Every fourth story that has three lines or more invites leaving out the last one."""


def gsm_symbolic(question: str, story: int, drawn: Mapping[str, object]) -> list[Strategy]:
    """`Mary has 9 jars of icing in her storage room. Each jar of icing can decorate 7 cupcakes. ...`."""
    lines = _filled(PROGRAMS[story], _numbers(question, drawn))
    steps = [Step(f"Work out {_name(line)}", line) for line in lines]
    strategies = [right("step_by_step", *steps, _close(lines))]
    if len(lines) > 2:
        merged = [Step(f"Work out {_name(lines[0])} and {_name(lines[1])}", "\n".join(lines[:2])), *steps[2:]]
        strategies.append(right("first_two_at_once", *merged, _close(lines), weight=0.3))
        if story % _STOPS_EARLY_EVERY == 0:
            strategies.append(flawed("stops_early", *steps[:-1], _close(lines[:-1]), weight=2.4))
    return strategies


def _name(line: str) -> str:
    return line.split(" = ", 1)[0]


def _close(lines: list[str]) -> Step:
    return show(f"f'{{{_name(lines[-1])}:.10g}}'")


def _filled(template: str, numbers: Mapping[str, str]) -> list[str]:
    return [
        re.sub(r"\{(#?\w+)\}", lambda match: numbers[match[1]], line.strip()) for line in template.strip().splitlines()
    ]


def _numbers(question: str, drawn: Mapping[str, object]) -> dict[str, str]:
    """Every number a program may name, as Python writes it."""
    printed = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", question))
    by_position = {f"#{position}": number for position, number in enumerate(printed)}
    by_name = {name: _literal(value) for name, value in drawn.items()}
    feet_per_unit = "3" if "yards" in question and "square feet" in question else "1"
    days = "30" if "month" in question else "7"
    return by_position | by_name | {"feet_per_unit": feet_per_unit, "days_in_period": days}


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
