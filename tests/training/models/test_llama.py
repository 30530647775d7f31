# pyright: basic
"""Llama as Qwen2: equal logits, and a refusal of what Qwen2 lacks."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from server.bundle.folders import bundled_models
from server.engines.model_folder import ModelFolder, PolicyKind
from server.engines.torch.checkpoint import load_policy
from training.models.llama import NotQwen2, as_qwen2, is_llama
from training.models.policy_model import start_from_model

pytestmark = pytest.mark.slow


def small_llama(**settings: object) -> LlamaForCausalLM:
    torch.manual_seed(1)
    shape: dict[str, object] = {
        "vocab_size": 1300,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        "tie_word_embeddings": True,
        "initializer_range": 0.2,  # with the default, attention hardly matters to the logits
    }
    config = LlamaConfig.from_dict(shape | settings)
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("is_tied", [True, False])
@torch.inference_mode()
def test_a_llama_computes_the_same_as_a_qwen2(*, is_tied: bool) -> None:
    llama = small_llama(tie_word_embeddings=is_tied)
    ids = torch.randint(1300, (2, 40), generator=torch.Generator().manual_seed(2))
    expected = llama(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(as_qwen2(llama)(ids).logits, expected, atol=1e-6, rtol=0)


def test_a_llama_with_biases_or_wider_heads_is_refused() -> None:
    for settings in ({"mlp_bias": True}, {"head_dim": 16}):
        with pytest.raises(NotQwen2, match=next(iter(settings))):
            as_qwen2(small_llama(**settings))


@torch.inference_mode()
def test_a_llama_folder_starts_a_policy_the_engine_reads(tmp_path: Path) -> None:
    llama = small_llama()
    assert is_llama(llama)
    llama.save_pretrained(tmp_path / "llama")
    AutoTokenizer.from_pretrained(bundled_models().policy).save_pretrained(tmp_path / "llama")
    start_from_model(tmp_path / "start", tmp_path / "llama")
    assert ModelFolder(tmp_path / "start").policy_kind is PolicyKind.STEP_FORMAT
    assert load_policy(tmp_path / "start").shape.rope_theta == 100_000
