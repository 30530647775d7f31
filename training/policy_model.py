# pyright: basic
"""The base policy's shape: a small Qwen2, so that vLLM and transformers serve it unchanged."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyShape:
    """Sizes of the policy. The default has 3.5M parameters: policy and PPM together stay well under 24 MB."""

    vocabulary: int = 1280
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    intermediate: int = 768
    context: int = 1536
    """Longest path in tokens. Demonstrations are under 700; rotary positions beyond those are untrained."""


def new_policy(shape: PolicyShape, *, seed: int, end_of_text: int) -> Qwen2ForCausalLM:
    """A randomly initialised policy in float32."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
        )
    )


def training_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_training_device(model: torch.nn.Module) -> None:
    """Move the model there, in place."""
    model.to(training_device())


def save_for_serving(model: torch.nn.Module, folder: Path) -> None:
    """Write bfloat16 weights and the configuration in the standard layout."""
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[operator]
