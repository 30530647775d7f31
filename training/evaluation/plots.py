# pyright: basic
"""Plots: PNG files of figures with their 95 % intervals. Draws what it is given and computes nothing.

Colours can be told apart by colour-blind readers, and lines differ in their markers too. Shares are drawn in per cent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from training.evaluation.intervals import Interval, ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito."""
MARKERS = "osD^vPX"

_DPI = 144
_INCHES = (7.5, 4.8)
_GREY = "#888888"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A figure that changes with something; intervals are drawn as a band."""

    label: str
    x: Sequence[float]
    y: Sequence[Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A single figure to compare lines with; its interval is drawn as a bar."""

    label: str
    x: float
    y: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """What the axes show."""

    title: str
    x: str
    """Label of the x axis, with the unit."""
    y: str = "problems solved (%)"
    ticks: Sequence[int] = field(default_factory=tuple[int, ...])
    """Of the x axis."""
    is_log: bool = False
    """Whether each step along x doubles it."""


def draw_lines(file: Path, lines: Sequence[Line], *, scales: Scales, marks: Sequence[Mark] = ()) -> None:
    """Lines with bands, and marks with bars."""
    figure, axes = _new(scales.title)
    for number, line in enumerate(lines):
        colour, marker = _look(number)
        low, high = [100 * one.low for one in line.y], [100 * one.high for one in line.y]
        axes.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
        middle = [100 * one.estimate for one in line.y]
        axes.plot(line.x, middle, color=colour, marker=marker, markersize=5, linewidth=1.8, label=line.label)
    for number, mark in enumerate(marks, start=len(lines)):
        below, above = mark.y.estimate - mark.y.low, mark.y.high - mark.y.estimate
        colour, marker = _look(number)
        axes.errorbar(
            [mark.x],
            [100 * mark.y.estimate],
            yerr=[[100 * below], [100 * above]],
            color=colour,
            marker=marker,
            markersize=7,
            capsize=3,
            linestyle="none",
            label=mark.label,
        )
    if scales.is_log:
        axes.set_xscale("log", base=2)
    if scales.ticks:
        axes.set_xticks(scales.ticks, labels=[str(tick) for tick in scales.ticks])
        axes.minorticks_off()
    axes.set_xlabel(scales.x)
    axes.set_ylabel(scales.y)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, file)


def draw_matrix(
    file: Path, cells: Sequence[Sequence[Interval | None]], *, rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Shares by two things; a cell without a figure stays empty."""
    figure, axes = _new(title)
    known = [100 * cell.estimate for row in cells for cell in row if cell is not None]
    shades = [[float("nan") if cell is None else 100 * cell.estimate for cell in row] for row in cells]
    least, most = min(known, default=0.0), max(known, default=100.0)
    image = axes.imshow(shades, cmap="Blues", vmin=least - 5, vmax=most + 5, aspect="auto")
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            if cell is not None:
                text = f"{100 * cell.estimate:.1f}\n[{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
                dark = 100 * cell.estimate > (least + most) / 2 + (most - least) / 4
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), labels=list(columns))
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="problems solved (%)")
    _save(figure, file)


def draw_reliability(file: Path, tables: Mapping[str, Sequence[ReliabilityBin]], *, title: str) -> None:
    """Mean confidence against the share of right answers; a true confidence lies on the diagonal."""
    figure, axes = _new(title)
    axes.plot([0, 100], [0, 100], color=_GREY, linestyle="--", linewidth=1, label="true confidence")
    for number, (label, bins) in enumerate(tables.items()):
        shares = [100 * one.share.estimate for one in bins]
        below = [share - 100 * one.share.low for share, one in zip(shares, bins, strict=True)]
        above = [100 * one.share.high - share for share, one in zip(shares, bins, strict=True)]
        colour, marker = _look(number)
        axes.errorbar(
            [100 * one.confidence for one in bins],
            shares,
            yerr=[below, above],
            color=colour,
            marker=marker,
            markersize=5,
            capsize=2,
            elinewidth=1,
            linestyle="none",
            label=label,
        )
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 101)
    axes.set_xlabel("confidence, mean of the bin (%)")
    axes.set_ylabel("right answers (%)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _save(figure, file)


def _look(number: int) -> tuple[str, str]:
    """Colour and marker; the same colour comes back with another marker."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def _new(title: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # takes half a second, and only plots need it

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: "Figure", file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(file))
