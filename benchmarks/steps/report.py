"""Report: figures by name, the targets for them, and how both are printed and written to a file."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The bound for a figure: at least `least`, or at most `most`."""

    name: str
    words: str
    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def bound(self) -> str:
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most is not None else "(no target)"


def show(figures: Mapping[str, float], targets: tuple[Target, ...]) -> None:
    """Print the other figures, then those with a target."""
    named = {target.name for target in targets}
    for name, value in figures.items():
        if name not in named:
            print(f"{name:<58}{value:>12.6g}")
    print("\nratios and bounds")
    for target in targets:
        if target.name in figures:
            value = figures[target.name]
            verdict = "" if target.is_met(value) else "   NOT MET"
            print(f"{target.words:<74}{value:>9.3g}  {target.bound}{verdict}")


def write(path: Path, figures: Mapping[str, float]) -> None:
    """Write a flat JSON object: the figures, the machine, versions."""
    machine = {
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "load_15_minutes": os.getloadavg()[2],
        "python": platform.python_version(),
    }
    versions = {name: _version(name) for name in ("rstar-server", "sympy", "numpy", "mpmath")}
    path.write_text(json.dumps({**figures, **machine, **versions}, indent=2) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
