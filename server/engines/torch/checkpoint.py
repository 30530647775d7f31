# pyright: basic
"""Checkpoints: reads a Hugging Face folder of a Qwen2-shaped model, and says why one cannot be served.

A folder holds `config.json`, `tokenizer.json` and safetensors weights; the policy's head may be tied to the embedding,
the PPM's is `score.weight` with one row. Computes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from server.engines.errors import CheckpointError
from server.engines.model_folder import ModelFolder
from server.engines.rendering import StepTokenizer
from server.engines.torch.model import EMBEDDING, Qwen2Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model ready to be built."""

    model_id: str
    """See `ModelFolder.model_id`."""
    shape: Qwen2Shape
    weights: Mapping[str, Tensor]
    head: Tensor
    """[vocabulary, hidden] for a policy, [1, hidden] for a PPM."""
    tokenizer: StepTokenizer


def load_policy(path: FilePath) -> Checkpoint:
    """A `Qwen2ForCausalLM` folder."""
    folder = ModelFolder(path)
    weights = _load_weights(folder)
    head = weights.get("lm_head.weight", weights.get(EMBEDDING))
    if head is None or "score.weight" in weights:
        raise CheckpointError(f"{path}: not a policy: expected lm_head.weight or a tied embedding, and no score.weight")
    return _checkpoint(folder, weights, head)


def load_ppm(path: FilePath) -> Checkpoint:
    """A `Qwen2ForSequenceClassification` folder with one label."""
    folder = ModelFolder(path)
    weights = _load_weights(folder)
    head = weights.get("score.weight")
    if head is None:
        raise CheckpointError(
            f"{path}: not a PPM: expected score.weight, the head of a *ForSequenceClassification model"
        )
    if head.shape[0] != 1:
        raise CheckpointError(f"{path}: expected a PPM with 1 label, found {head.shape[0]}")
    return _checkpoint(folder, weights, head)


def _checkpoint(folder: ModelFolder, weights: Mapping[str, Tensor], head: Tensor) -> Checkpoint:
    shape, tokenizer = _shape(folder), folder.step_tokenizer
    for name, expected in shape.weight_shapes().items():
        found = list(weights[name].shape) if name in weights else None
        if found != list(expected):
            raise CheckpointError(f"{folder.path}: expected {name} of {list(expected)}, found {found or 'none'}")
    if head.shape[1] != shape.hidden_size:
        raise CheckpointError(f"{folder.path}: expected a head of width {shape.hidden_size}, found {head.shape[1]}")
    if tokenizer.size > shape.vocabulary_size:
        raise CheckpointError(
            f"{folder.path}: the tokenizer has {tokenizer.size} tokens, the model only {shape.vocabulary_size}; "
            "they were not made for each other"
        )
    return Checkpoint(model_id=folder.model_id, shape=shape, weights=weights, head=head, tokenizer=tokenizer)


def _load_weights(folder: ModelFolder) -> dict[str, Tensor]:
    folder.file("config.json")
    weights: dict[str, Tensor] = {}
    for file in folder.weight_files:
        try:
            weights.update(load_file(file))
        except SafetensorError as error:
            raise CheckpointError(f"{file}: unreadable weights ({error})") from error
    return weights


def _shape(folder: ModelFolder) -> Qwen2Shape:
    config = folder.config
    if config.get("model_type") != "qwen2":
        raise CheckpointError(f"{folder.path}: expected model_type qwen2, found {config.get('model_type')!r}")
    if config.get("use_sliding_window"):
        raise CheckpointError(
            f"{folder.path}: sliding-window attention is not supported; set use_sliding_window to false"
        )
    return Qwen2Shape(
        layers=folder.number("num_hidden_layers"),
        hidden_size=folder.number("hidden_size"),
        intermediate_size=folder.number("intermediate_size"),
        heads=folder.number("num_attention_heads"),
        key_value_heads=folder.number("num_key_value_heads"),
        head_size=folder.head_size,
        rope_theta=_rope_theta(folder),
        norm_epsilon=float(cast(float, config.get("rms_norm_eps", 1e-6))),
        vocabulary_size=folder.number("vocab_size"),
        context_tokens=folder.context_tokens,
    )


def _rope_theta(folder: ModelFolder) -> float:
    """The rotation base, from either spelling that transformers has used."""
    rope = cast(dict[str, object], folder.config.get("rope_parameters") or folder.config.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(
            f"{folder.path}: rotary embeddings of type {kind!r} are not supported, only the default one"
        )
    return float(cast(float, rope.get("rope_theta", folder.config.get("rope_theta", 10_000.0))))
