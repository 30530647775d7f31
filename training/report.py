"""The report: an evaluation as a table for people and as a flat JSON object for programs."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training.evaluate import Attempts, Method, Row, summarise
from training.statistics import Interval

ALL = "all"
"""Stands for all groups together."""


def print_report(attempts: Attempts) -> None:
    """A table of shares by group, then the paired gains over all problems."""
    table = Table("problems", "count", *(str(method) for method in Method), title="share solved, in per cent")
    for group in (*_groups(attempts), ALL):
        rows = {row.method: row for row in _rows(attempts, group)}
        table.add_row(group, str(_count(attempts, group)), *(f"{100 * rows[m].share.mean:.0f}" for m in Method))
    console = Console()
    console.print(table)
    for row in _rows(attempts, ALL):
        gain = "" if row.gain is None else f"; mcts gains {_percent(row.gain)} on it"
        console.print(
            f"{row.method}: {_percent(row.share)}, {row.tokens:.0f} tokens a problem, "
            f"right among its trajectories {100 * row.any_right:.1f}{gain}",
            highlight=False,
        )


def shares_by_group(attempts: Attempts) -> dict[str, dict[Method, float]]:
    """The share solved, by group and method."""
    return {group: {row.method: row.share.mean for row in _rows(attempts, group)} for group in _groups(attempts)}


def write_report(path: Path, attempts: Attempts) -> None:
    """Flat names such as `gcd/mcts/share`, shares from 0 to 1, with machine and versions."""
    figures: dict[str, object] = {}
    for group in (*_groups(attempts), ALL):
        figures[f"{group}/problems"] = _count(attempts, group)
        for row in _rows(attempts, group):
            figures |= {f"{group}/{row.method}/{name}": value for name, value in _figures(row).items()}
    figures["machine"] = f"{platform.machine()} {platform.system()}"
    figures |= {package: version(package) for package in ("torch", "reasoning-gym")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")


def _figures(row: Row) -> dict[str, float]:
    figures = {"share": row.share.mean, "low": row.share.low, "high": row.share.high}
    if row.gain is not None:
        figures |= {"mcts_gain": row.gain.mean, "mcts_gain_low": row.gain.low, "mcts_gain_high": row.gain.high}
    return figures | {"any_right": row.any_right, "tokens": row.tokens}


def _groups(attempts: Attempts) -> list[str]:
    return list(dict.fromkeys(attempt.group for attempt in attempts[Method.MCTS]))


def _rows(attempts: Attempts, group: str) -> list[Row]:
    return summarise(attempts, group=None if group == ALL else group)


def _count(attempts: Attempts, group: str) -> int:
    return sum(group in (ALL, attempt.group) for attempt in attempts[Method.MCTS])


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
