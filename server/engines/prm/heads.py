# pyright: basic
"""Reward heads: the layers on a language model's last hidden state, in formats that others publish.

<folder>/value_head.bin      rStar-Math: v_head.summary.{weight,bias}, one linear row beside a causal model
score.{0,2}.{weight,bias}    Qwen2.5-Math-PRM: two layers, the classes wrong and right at a step's separator
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from pickle import UnpicklingError
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder, PpmKind

PUBLISHED_SCALE = 5.0
"""The published code searches with tanh(value / 5), though it trains without either: see rStar issue 12."""


class RewardHead(Protocol):
    """A head."""

    def __call__(self, hidden_B_H: Tensor) -> Tensor:
        """One score in [-1, 1] per row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueHead:
    """tanh((weight · hidden + bias) / scale)."""

    weight_1_H: Tensor
    bias: float
    scale: float = PUBLISHED_SCALE

    def __call__(self, hidden_B_H: Tensor) -> Tensor:
        values_B = hidden_B_H.float() @ self.weight_1_H.float()[0] + self.bias
        return torch.tanh(values_B / self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoClassHead:
    """2·P(right) - 1, after two layers with a rectifier between them."""

    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]

    def __call__(self, hidden_B_H: Tensor) -> Tensor:
        inner = torch.relu(hidden_B_H.float() @ self.weights[0].float().T + self.biases[0].float())
        logits_B_C = inner @ self.weights[1].float().T + self.biases[1].float()
        return 2 * logits_B_C.softmax(dim=-1)[:, 1] - 1


def read_head(folder: ModelFolder) -> RewardHead:
    """Read the head of a PPM of any kind. Raises `CheckpointError`."""
    readers = {
        PpmKind.STANDARD: read_scalar_head,
        PpmKind.PROCESS_REWARD: read_two_class_head,
        PpmKind.VALUE_HEAD: read_value_head,
    }
    return readers[folder.ppm_kind](folder.path)


def read_value_head(folder: FilePath, *, scale: float = PUBLISHED_SCALE) -> ValueHead:
    """Read the head from `value_head.bin`, without running code in the pickle. Raises `CheckpointError`."""
    file = folder / VALUE_HEAD_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: {VALUE_HEAD_FILE} is missing; expected it beside the model")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{file}: unreadable, or more than tensors ({type(error).__name__}: {error})") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{file}: expected named tensors, found {type(loaded).__name__}")
    tensors = {str(name).removeprefix("v_head."): value for name, value in loaded.items()}
    weight = tensors.get("summary.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] != 1 or set(tensors) - {"summary.weight", "summary.bias"}:
        shapes = {name: list(value.shape) for name, value in tensors.items()}
        raise CheckpointError(f"{file}: expected summary.weight of one row and summary.bias, found {shapes}")
    bias = tensors.get("summary.bias")
    return ValueHead(weight_1_H=weight, bias=0.0 if bias is None else float(bias), scale=scale)


def read_scalar_head(folder: FilePath) -> ValueHead:
    """Read the head from a `*ForSequenceClassification` folder with one label. Raises `CheckpointError`."""
    weight = _weights(folder, "score.weight").get("score.weight")
    if weight is None:
        raise CheckpointError(
            f"{folder}: not a PPM: expected score.weight, the head of a *ForSequenceClassification model"
        )
    if weight.shape[0] != 1:
        raise CheckpointError(f"{folder}: expected a PPM with 1 label, found {weight.shape[0]}")
    return ValueHead(weight_1_H=weight, bias=0.0, scale=1.0)


def read_two_class_head(folder: FilePath) -> TwoClassHead:
    """Read the head from a `Qwen2ForProcessRewardModel` folder. Raises `CheckpointError`."""
    names = ("score.0.weight", "score.2.weight", "score.0.bias", "score.2.bias")
    found = _weights(folder, *names)
    missing = [name for name in names if name not in found]
    if missing or found["score.2.weight"].shape[0] != 2:
        raise CheckpointError(f"{folder}: expected a head of two layers and two classes; missing: {missing or 'none'}")
    weights_0, weights_2, bias_0, bias_2 = (found[name] for name in names)
    return TwoClassHead(weights=(weights_0, weights_2), biases=(bias_0, bias_2))


def _weights(folder: FilePath, *names: str) -> dict[str, Tensor]:
    """Those of the names that are among the model's weights."""
    found: dict[str, Tensor] = {}
    for file in ModelFolder(folder).weight_files:
        with safe_open(file, framework="pt") as weights:
            found |= {name: weights.get_tensor(name) for name in names if name in weights.keys()}  # noqa: SIM118 # no mapping
    return found
