# pyright: basic
"""Llama as Qwen2: the same weights in the shape that every engine serves.

The two differ in one point: Qwen2 adds a bias to queries, keys and values. With biases of zero it computes the same.
Training may move them.
"""

import torch
from transformers import LlamaConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

_SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
"""Settings with the same name and meaning in both."""
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""Settings of Llama that Qwen2 has with this value only."""


class NotQwen2(Exception):
    """The Llama model has a part that Qwen2 lacks; the message names it."""


def is_llama(model: PreTrainedModel) -> bool:
    """Whether `as_qwen2` takes the model."""
    return isinstance(model.config, LlamaConfig)


def as_qwen2(model: PreTrainedModel) -> Qwen2ForCausalLM:
    """A causal Llama as Qwen2. Raises `NotQwen2`."""
    config = model.config
    fixed = _FIXED | {"head_dim": config.hidden_size // config.num_attention_heads}
    if other := [name for name, value in fixed.items() if getattr(config, name) != value]:
        found = ", ".join(f"{name} {getattr(config, name)}" for name in other)
        raise NotQwen2(f"a Llama model with {found} cannot become a Qwen2 model; expected {fixed}")
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**{name: getattr(config, name) for name in _SHARED}))
    weights = model.state_dict()
    biases = {name: torch.zeros_like(new) for name, new in qwen2.state_dict().items() if name not in weights}
    qwen2.load_state_dict(weights | biases)
    return qwen2
