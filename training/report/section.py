"""Section: a part of the report, with its text, figures and plots. Knows nothing of runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Figures = dict[str, float | str]
"""Flat, by names such as `greedy/round_2/share`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part."""

    title: str
    text: str
    """Markdown. Where records are missing, a sentence that says so."""
    figures: Figures = field(default_factory=dict[str, float | str])
    plots: Mapping[str, Callable[[Path], None]] = field(default_factory=dict[str, Callable[[Path], None]])
    """What draws each file, by its name."""

    @property
    def document(self) -> str:
        """The part as Markdown, its plots linked."""
        links = "".join(f"\n![{self.title}](plots/{name})\n" for name in self.plots)
        return f"## {self.title}\n\n{self.text}{links}"
