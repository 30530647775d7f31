"""Plots are PNG files of the expected size that show what they were given."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.intervals import Interval, reliability
from training.evaluation.plots import COLOURS, Line, Mark, Scales, draw_lines, draw_matrix, draw_reliability

SCALES = Scales(title="Solved", x="trajectories", ticks=(1, 2, 4, 8), is_log=True)
SIZE = (1080, 691)
"""7.5 by 4.8 inches at 144 dots."""


def _pixels(file: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(file) as image:
        assert image.format == "PNG"
        assert image.size == SIZE
        return np.asarray(image.convert("RGB"))


def _count(pixels: NDArray[np.uint8], colour: str) -> int:
    rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels.astype(int) - rgb).sum(axis=2) < 12).sum())


def _line(label: str, estimates: list[float]) -> Line:
    return Line(label=label, x=[1, 2, 4, 8], y=[Interval(one, one - 0.05, one + 0.05) for one in estimates])


def test_each_line_and_mark_is_drawn_in_its_colour(tmp_path: Path) -> None:
    file = tmp_path / "plots" / "lines.png"
    lines = [_line("round 1", [0.5, 0.6, 0.7, 0.75]), _line("round 2", [0.6, 0.7, 0.8, 0.85])]
    draw_lines(file, lines, scales=SCALES, marks=[Mark(label="greedy", x=1, y=Interval(0.4, 0.35, 0.45))])
    pixels = _pixels(file)
    assert [_count(pixels, colour) > 100 for colour in COLOURS[:4]] == [True, True, True, False]


def test_a_higher_share_is_drawn_higher(tmp_path: Path) -> None:
    file = tmp_path / "lines.png"
    draw_lines(file, [_line("low", [0.2] * 4), _line("high", [0.8] * 4)], scales=SCALES)
    pixels = _pixels(file)[:, :600]  # without the legend
    heights = [
        float(np.argwhere(np.abs(pixels.astype(int) - rgb).sum(axis=2) < 12)[:, 0].mean())
        for rgb in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00])
    ]
    assert heights[1] < heights[0] - 200


def test_a_matrix_darkens_with_the_share(tmp_path: Path) -> None:
    file = tmp_path / "matrix.png"
    cells = [[Interval(0.5, 0.4, 0.6), None], [Interval(0.7, 0.6, 0.8), Interval(0.9, 0.8, 1.0)]]
    draw_matrix(file, cells, rows=["policy 1", "policy 2"], columns=["PPM 1", "PPM 2"], title="Matrix")
    pixels = _pixels(file).astype(int)
    upper_left, lower_right = pixels[100:250, 150:200].mean(), pixels[450:600, 800:850].mean()
    assert upper_left > lower_right + 60
    assert pixels[150:200, 800:850].min() == 255  # the empty cell


def test_reliability_is_drawn_with_its_diagonal(tmp_path: Path) -> None:
    file = tmp_path / "reliability.png"
    confidence = [0.01 * number for number in range(100)]
    bins = reliability(confidence, [number > 50 for number in range(100)])
    draw_reliability(file, {"fitted": bins, "unfitted": bins[:5]}, title="Confidence")
    pixels = _pixels(file)
    assert _count(pixels, COLOURS[0]) > 100
    assert _count(pixels, "#888888") > 50


@pytest.mark.parametrize("estimate", [0.0, 1.0])
def test_an_interval_without_width_can_be_drawn(tmp_path: Path, estimate: float) -> None:
    draw_lines(
        tmp_path / "a.png",
        [],
        scales=Scales(title="One", x="round", ticks=(1,)),
        marks=[Mark(label="all", x=1, y=Interval(estimate, estimate, estimate))],
    )
    assert _pixels(tmp_path / "a.png").min() < 255
