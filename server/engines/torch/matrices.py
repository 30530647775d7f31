# pyright: basic
"""Matrices: weight matrices laid out for the CPU, each a product of float32 rows. Never changes what a row means.

A decoding step of a few sequences is bound by the reading of the weights, so they are held in two bytes each wherever
that loses next to nothing. FBGEMM's product of float32 rows with float16 weights took half the time of the float32
product at 8 rows, two thirds at 32 and nine tenths at 256 (`benchmarks/matrices.py`), and it gives a row the same bits
whatever the rows beside it.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Float32 [rows, inputs] to float32 [rows, outputs]."""

_LOST_BY_HALF = 2.0**-20
"""What a weight may move, by the matrix's largest one: a sixteenth of what rounding to float16 does to most float32
weights. Those of bfloat16 move only far below the largest, where float16 has no such small numbers."""


class Precision(StrEnum):
    """The type of the weight matrices while computing; everything else is float32 always."""

    FLOAT32 = "float32"
    """The default: the product of the weights as they are with float32 rows, whatever type holds them. Attention still
    rounds a little differently with the lengths beside it, so a sample may turn on what else is in the batch; a lone
    search on a fresh engine repeats itself."""
    BFLOAT16 = "bfloat16"
    """Rows are rounded too. Faster from 64 rows on where the processor has the instructions, but 163 of 384 sequences
    of a random model turned. For making training data."""


def product(weight: Tensor, bias: Tensor | None = None, *, precision: Precision) -> Product:
    """`rows @ weight.T + bias`, `weight` being [outputs, inputs]."""
    if precision is Precision.BFLOAT16:
        narrow, narrow_bias = weight.bfloat16().contiguous(), None if bias is None else bias.bfloat16()
        return lambda rows: F.linear(rows.bfloat16(), narrow, narrow_bias).float()
    weight, bias = weight.float().contiguous(), None if bias is None else bias.float()
    if has_half_product() and _is_kept_by_half(weight):
        packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        return lambda rows: torch.ops.quantized.linear_dynamic_fp16(rows, packed)
    return lambda rows: F.linear(rows, weight, bias)


def _is_kept_by_half(weight: Tensor) -> bool:
    """True of weights that were trained or stored as bfloat16 or float16."""
    return bool((weight.half().float() - weight).abs().max() <= _LOST_BY_HALF * weight.abs().max())


@cache
def has_half_product() -> bool:
    """Whether this build of torch has the product for this processor, which is x86 with AVX2."""
    try:
        packed = torch.ops.quantized.linear_prepack_fp16(torch.eye(2), None)
        return torch.equal(torch.ops.quantized.linear_dynamic_fp16(torch.eye(2), packed), torch.eye(2))
    except (AttributeError, RuntimeError):
        return False
