# pyright: basic
"""The Qwen2 transformer on the CPU: weights laid out for serving, and one forward pass over packed tokens.

Every token of every sequence is one row; the `Attention` passed in decides which tokens a row sees, so that prefill and
decoding share this code. All rows are float32. Never samples, never keeps state between calls.

A decoding step of a few sequences is bound by the reading of the weights, so they are held in two bytes each wherever
that loses next to nothing. FBGEMM's product of float32 rows with float16 weights took half the time of the float32
product at 8 rows, two thirds at 32 and nine tenths at 256 (`benchmarks/matrices.py`), and it gives a row the same bits
whatever the rows beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

EMBEDDING = "model.embed_tokens.weight"

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Float32 [rows, inputs] to float32 [rows, outputs]."""

_LOST_BY_HALF = 2.0**-20
"""What a weight may move, by the matrix's largest one: a sixteenth of what rounding to float16 does to most float32
weights. Those of bfloat16 move only far below the largest, where float16 has no such small numbers."""


class Precision(StrEnum):
    """The type of the weight matrices while computing; everything else is float32 always."""

    FLOAT32 = "float32"
    """The default: the product of the weights, in the type they are stored in, with float32 rows. Attention still
    rounds a little differently with the lengths beside it, so a sample may turn on what else is in the batch; a lone
    search on a fresh engine repeats itself."""
    BFLOAT16 = "bfloat16"
    """Rows are rounded too: 163 of 384 sequences of a random model turned. For making training data where the
    processor makes it faster; on one without AMX the products took 1.5 times as long or more."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2Shape:
    """The numbers of a Qwen2 configuration."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    key_value_heads: int
    head_size: int
    rope_theta: float
    norm_epsilon: float
    vocabulary_size: int
    context_tokens: int
    """The longest sequence served."""

    @property
    def queries_per_key(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.key_value_heads

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights in a checkpoint of this shape, except its head."""
        hidden, wide = self.hidden_size, self.intermediate_size
        queries, keys = self.heads * self.head_size, self.key_value_heads * self.head_size
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (queries, hidden),
            "self_attn.q_proj.bias": (queries,),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.k_proj.bias": (keys,),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.v_proj.bias": (keys,),
            "self_attn.o_proj.weight": (hidden, queries),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (wide, hidden),
            "mlp.up_proj.weight": (wide, hidden),
            "mlp.down_proj.weight": (hidden, wide),
        }
        layers = {f"model.layers.{i}.{name}": shape for i in range(self.layers) for name, shape in layer.items()}
        ends = {EMBEDDING: (self.vocabulary_size, hidden), "model.norm.weight": (hidden,)}
        return ends | layers


class Attention(Protocol):
    """Gives each row its context, and stores keys and values. K: key-value heads, Q: queries per key."""

    def __call__(self, layer: int, queries_N_K_Q_D: Tensor, keys_N_K_D: Tensor, values_N_K_D: Tensor) -> Tensor:
        """The attention output of `layer`, shaped like the queries."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One block's weights; projections that read the same input are stacked into one matrix."""

    input_norm: Tensor
    qkv: Product
    out: Product
    mlp_norm: Tensor
    gate_up: Product
    down: Product


class Qwen2:
    """A Qwen2 decoder without its head."""

    def __init__(self, shape: Qwen2Shape, weights: Mapping[str, Tensor], *, precision: Precision) -> None:
        self.shape = shape
        self._precision = precision
        self._embedding = weights[EMBEDDING].float()
        self._final_norm = weights["model.norm.weight"].float()
        self._layers = [self._load_layer(weights, f"model.layers.{i}.") for i in range(shape.layers)]
        frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_size, 2).double() / shape.head_size)
        angles = torch.outer(torch.arange(shape.context_tokens).double(), frequencies)
        self._rotations = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def product(self, weight: Tensor, bias: Tensor | None = None) -> Product:
        """The product with `weight`, in the model's precision."""
        return product(weight, bias, precision=self._precision)

    def forward(self, ids_N: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
        """The final normalised hidden state of each row."""
        shape = self.shape
        rows = ids_N.shape[0]
        rotations = self._rotations[positions_N].unsqueeze(1)
        rotated = shape.heads + shape.key_value_heads
        hidden = self._embedding[ids_N]
        for index, layer in enumerate(self._layers):
            normed = F.rms_norm(hidden, (shape.hidden_size,), layer.input_norm, shape.norm_epsilon)
            qkv = layer.qkv(normed).view(rows, -1, shape.head_size)
            pairs = torch.view_as_complex(qkv[:, :rotated].unflatten(-1, (-1, 2)))
            queries_keys = torch.view_as_real(pairs * rotations).flatten(-2)
            queries = queries_keys[:, : shape.heads].unflatten(1, (shape.key_value_heads, shape.queries_per_key))
            mixed = attention(index, queries, queries_keys[:, shape.heads :], qkv[:, rotated:])
            hidden += layer.out(mixed.reshape(rows, -1))
            normed = F.rms_norm(hidden, (shape.hidden_size,), layer.mlp_norm, shape.norm_epsilon)
            gate, up = layer.gate_up(normed).chunk(2, dim=-1)
            hidden += layer.down(F.silu(gate) * up)
        return F.rms_norm(hidden, (shape.hidden_size,), self._final_norm, shape.norm_epsilon)

    def _load_layer(self, weights: Mapping[str, Tensor], prefix: str) -> _Layer:
        def part(name: str) -> Tensor:
            return weights[f"{prefix}{name}"]

        def stacked(kind: str) -> Tensor:
            queries = self._pair_halves(part(f"self_attn.q_proj.{kind}"))
            keys = self._pair_halves(part(f"self_attn.k_proj.{kind}"))
            return torch.cat([queries, keys, part(f"self_attn.v_proj.{kind}")])

        return _Layer(
            input_norm=part("input_layernorm.weight").float(),
            qkv=self.product(stacked("weight"), stacked("bias")),
            out=self.product(part("self_attn.o_proj.weight")),
            mlp_norm=part("post_attention_layernorm.weight").float(),
            gate_up=self.product(torch.cat([part("mlp.gate_proj.weight"), part("mlp.up_proj.weight")])),
            down=self.product(part("mlp.down_proj.weight")),
        )

    def _pair_halves(self, rows: Tensor) -> Tensor:
        """Put dimension i of each head beside i + half, so that a rotation is one complex product.

        Queries and keys are permuted alike, so their products do not change.
        """
        heads = rows.unflatten(0, (-1, 2, self.shape.head_size // 2))
        return heads.transpose(1, 2).flatten(0, 2)
