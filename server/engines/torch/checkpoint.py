# pyright: basic
"""Checkpoints: reads a Hugging Face folder of a Qwen2-shaped model, and refuses, in words, one that cannot be served.

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
from server.engines.model_folder import config_number, existing_file, model_id, read_config, weight_files
from server.engines.rendering import StepTokenizer
from server.engines.torch.qwen2 import EMBEDDING, Qwen2Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model ready to be built."""

    model_id: str
    """See `server.engines.model_folder.model_id`."""
    shape: Qwen2Shape
    weights: Mapping[str, Tensor]
    head: Tensor
    """[vocabulary, hidden] for a policy, [1, hidden] for a PPM."""
    tokenizer: StepTokenizer


def load_policy(folder: FilePath, *, context_tokens: int | None = None) -> Checkpoint:
    """A `Qwen2ForCausalLM` folder; `context_tokens` serves a shorter context than the model's own."""
    weights = _load_weights(folder)
    head = weights.get("lm_head.weight", weights.get(EMBEDDING))
    if head is None or "score.weight" in weights:
        raise CheckpointError(
            f"{folder}: not a policy: expected lm_head.weight or a tied embedding, and no score.weight"
        )
    return _checkpoint(folder, weights, head, context_tokens=context_tokens)


def load_ppm(folder: FilePath, *, context_tokens: int | None = None) -> Checkpoint:
    """A `Qwen2ForSequenceClassification` folder with one label."""
    weights = _load_weights(folder)
    head = weights.get("score.weight")
    if head is None:
        raise CheckpointError(
            f"{folder}: not a PPM: expected score.weight, the head of a *ForSequenceClassification model"
        )
    if head.shape[0] != 1:
        raise CheckpointError(f"{folder}: expected a PPM with 1 label, found {head.shape[0]}")
    return _checkpoint(folder, weights, head, context_tokens=context_tokens)


def _checkpoint(
    folder: FilePath, weights: Mapping[str, Tensor], head: Tensor, *, context_tokens: int | None
) -> Checkpoint:
    shape = _shape(folder, context_tokens=context_tokens)
    tokenizer = StepTokenizer(existing_file(folder, "tokenizer.json"))
    for name, expected in shape.weight_shapes().items():
        found = list(weights[name].shape) if name in weights else None
        if found != list(expected):
            raise CheckpointError(f"{folder}: expected {name} of {list(expected)}, found {found or 'none'}")
    if head.shape[1] != shape.hidden_size:
        raise CheckpointError(f"{folder}: expected a head of width {shape.hidden_size}, found {head.shape[1]}")
    if tokenizer.size > shape.vocabulary_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, the model only {shape.vocabulary_size}; "
            "they were not made for each other"
        )
    return Checkpoint(
        model_id=model_id(folder),
        shape=shape,
        weights=weights,
        head=head,
        tokenizer=tokenizer,
    )


def _load_weights(folder: FilePath) -> dict[str, Tensor]:
    existing_file(folder, "config.json")
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights.update(load_file(file))
        except SafetensorError as error:
            raise CheckpointError(f"{file}: unreadable weights ({error})") from error
    return weights


def _shape(folder: FilePath, *, context_tokens: int | None) -> Qwen2Shape:
    config = read_config(folder)
    if config.get("model_type") != "qwen2":
        raise CheckpointError(f"{folder}: expected model_type qwen2, found {config.get('model_type')!r}")
    if config.get("use_sliding_window"):
        raise CheckpointError(f"{folder}: sliding-window attention is not supported; set use_sliding_window to false")
    heads = config_number(folder, config, "num_attention_heads")
    hidden = config_number(folder, config, "hidden_size")
    limit = config_number(folder, config, "max_position_embeddings")
    context = limit if context_tokens is None else context_tokens
    if not 0 < context <= limit:
        raise CheckpointError(f"{folder}: a context of {context} tokens was asked for, the model has 1 to {limit}")
    return Qwen2Shape(
        layers=config_number(folder, config, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=config_number(folder, config, "intermediate_size"),
        heads=heads,
        key_value_heads=config_number(folder, config, "num_key_value_heads"),
        head_size=hidden // heads if config.get("head_dim") is None else config_number(folder, config, "head_dim"),
        rope_theta=_rope_theta(folder, config),
        norm_epsilon=float(cast(float, config.get("rms_norm_eps", 1e-6))),
        vocabulary_size=config_number(folder, config, "vocab_size"),
        context_tokens=context,
    )


def _rope_theta(folder: FilePath, config: Mapping[str, object]) -> float:
    """The rotation base, from either spelling that transformers has used."""
    rope = cast(dict[str, object], config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(f"{folder}: rotary embeddings of type {kind!r} are not supported, only the default one")
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    return float(cast(float, theta))
