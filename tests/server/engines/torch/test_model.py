# pyright: basic
"""The Qwen2 forward pass against transformers' own, and the precision of products with weight matrices."""

from pathlib import Path as FilePath

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from server.engines.torch.model import Precision, has_half_product, product
from tests.server.engines.torch.reference import Reference, tokens

SHAPES = [
    {},
    {"num_key_value_heads": 1},
    {"num_key_value_heads": 4},
    {"head_dim": 16, "tie_word_embeddings": False},
    {"max_position_embeddings": 64},
]
ROWS = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(384, 256, generator=torch.Generator().manual_seed(1)).bfloat16() / 16
BIAS = torch.randn(384, generator=torch.Generator().manual_seed(2)).bfloat16()
TINY = WEIGHT * 2e-6
"""Below what float16 can hold."""
HUGE = torch.full_like(WEIGHT, 1e6)
FINE = WEIGHT.float() + torch.rand(384, 256, generator=torch.Generator().manual_seed(3)) * 2**-15
"""Between the numbers that two bytes can hold."""


@pytest.mark.parametrize("changes", SHAPES)
@torch.inference_mode()
def test_logits_are_those_of_transformers(make_folder, tmp_path: FilePath, changes: dict[str, object]) -> None:
    reference = Reference(make_folder(tmp_path / "model", "Qwen2ForCausalLM", seed=7, **changes))
    ids = tokens(60, seed=1)
    (node,) = reference.encoder.encode([(ids,)])
    torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)


def exact(weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(ROWS.double(), weight.double(), None if bias is None else bias.double())


@pytest.mark.parametrize(
    "weight", [WEIGHT, WEIGHT.float(), TINY, HUGE, FINE], ids=["bf16", "f32", "tiny", "huge", "fine"]
)
@pytest.mark.parametrize("bias", [None, BIAS], ids=["", "bias"])
def test_weights_are_taken_as_they_are(weight: Tensor, bias: Tensor | None) -> None:
    found = product(weight, bias, precision=Precision.FLOAT32)(ROWS)
    assert found.dtype == torch.float32
    expected = exact(weight, bias)
    torch.testing.assert_close(found.double(), expected, atol=3e-6 * float(expected.abs().max()), rtol=0)


@pytest.mark.skipif(not has_half_product(), reason="this processor has the float32 product only")
def test_a_row_does_not_depend_on_those_beside_it() -> None:
    multiply = product(WEIGHT, BIAS, precision=Precision.FLOAT32)
    together = multiply(ROWS)
    for count in (1, 2, 3, 7, 16, 33):
        assert torch.equal(multiply(ROWS[:count].contiguous()), together[:count])


def test_rounded_rows_are_near() -> None:
    found = product(WEIGHT, BIAS, precision=Precision.BFLOAT16)(ROWS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact(WEIGHT, BIAS), atol=0.05, rtol=0)
