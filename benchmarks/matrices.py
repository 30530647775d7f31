# pyright: basic
"""Matrices: a product with weights stored in two bytes against the same product in float32, by the number of rows.

    python benchmarks/matrices.py [--json PATH]

The matrices are those of the bundled policy, all layers one after the other as in a decoding step, on one core. The two
kinds alternate, so that other load on the machine affects both alike. The figure is the ratio of the median times.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps.report import Target, show, write
from server.bundle.folders import bundled_models
from server.engines.torch.checkpoint import load_policy
from server.engines.torch.model import Precision, has_half_product, product

ROWS = (1, 8, 16, 32, 64, 256, 1024)
TURNS = 40
TARGETS = tuple(Target(name=f"{rows}_rows", words=f"two bytes / float32, time, {rows} rows", most=1.0) for rows in ROWS)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="products with weights held in two bytes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if not has_half_product():
        sys.exit("this processor, or this build of torch, has the float32 product only: nothing to compare")
    torch.set_num_threads(1)
    with torch.inference_mode():
        figures = _measured(
            [weight for weight in load_policy(bundled_models().policy).weights.values() if weight.dim() > 1]
        )
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)


def _measured(weights: Sequence[Tensor]) -> dict[str, float]:
    halves = [product(weight, precision=Precision.FLOAT32) for weight in weights]
    floats = [partial(F.linear, weight=weight.float().contiguous()) for weight in weights]
    figures: dict[str, float] = {}
    for rows in ROWS:
        inputs = [torch.randn(rows, weight.shape[1]) for weight in weights]
        times = [(_seconds(halves, inputs), _seconds(floats, inputs)) for _ in range(TURNS)]
        half_s, float_s = (median(column) for column in zip(*times, strict=True))
        figures[f"{rows}_rows"] = half_s / float_s
    return figures


def _seconds(products: Sequence[Callable[[Tensor], Tensor]], inputs: Sequence[Tensor]) -> float:
    began_s = time.perf_counter()
    for multiply, rows in zip(products, inputs, strict=True):
        multiply(rows)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
