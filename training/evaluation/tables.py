"""Tables: figures as Markdown, in per cent with intervals. Knows no method and computes nothing."""

from collections.abc import Iterable, Sequence

from training.evaluation.intervals import Interval


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with aligned columns; the first column is text, the others are numbers."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(cells[0], widths), f"| {' | '.join(rule)} |", *(_line(row, widths) for row in cells[1:])]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"


def percent(interval: Interval | None) -> str:
    """A share with its interval, such as `72.4 [69.8, 74.9]`."""
    if interval is None:
        return "–"
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points(interval: Interval | None) -> str:
    """A difference of shares in points, with signs."""
    if interval is None:
        return "–"
    return f"{100 * interval.estimate:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def decimal(interval: Interval | None) -> str:
    """A number between 0 and 1 with three digits."""
    if interval is None:
        return "–"
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def flat(name: str, interval: Interval | None) -> dict[str, float]:
    """The interval as three figures named after the first."""
    if interval is None:
        return {}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
