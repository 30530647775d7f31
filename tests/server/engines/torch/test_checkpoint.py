# pyright: basic
"""Checkpoints: folders that cannot be served are refused with the reason."""

import json
import shutil
from pathlib import Path as FilePath

import pytest
import torch
from safetensors.torch import load_file, save_file

from search.format import SPECIAL_TOKENS
from server.engines.errors import CheckpointError
from server.engines.torch.checkpoint import load_policy, load_ppm


@pytest.fixture
def copied(policy_folder: FilePath, tmp_path: FilePath) -> FilePath:
    return FilePath(shutil.copytree(policy_folder, tmp_path / "policy"))


def change_config(folder: FilePath, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_model_id_names_the_content(policy_folder: FilePath, copied: FilePath) -> None:
    assert load_policy(copied).model_id == load_policy(policy_folder).model_id
    assert load_policy(copied).model_id.startswith("policy@")
    weights = load_file(copied / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copied / "model.safetensors")
    assert load_policy(copied).model_id != load_policy(policy_folder).model_id


def test_a_missing_folder_is_named(tmp_path: FilePath) -> None:
    with pytest.raises(CheckpointError, match="absent: no such model folder"):
        load_policy(tmp_path / "absent")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(copied: FilePath, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name.removeprefix("model")):
        load_policy(copied)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_unreadable_file_is_named(copied: FilePath, name: str) -> None:
    (copied / name).write_text("not what it should be")
    with pytest.raises(CheckpointError, match=name):
        load_policy(copied)


@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, "<|endoftext|>"])
def test_a_missing_special_token_is_named(copied: FilePath, token: str) -> None:
    file = copied / "tokenizer.json"
    file.write_text(file.read_text().replace(json.dumps(token), json.dumps("<renamed>")))
    with pytest.raises(CheckpointError, match=f"special token {token.replace('|', '.')} is missing"):
        load_policy(copied)


def test_a_token_that_can_be_forged_is_refused(copied: FilePath) -> None:
    file = copied / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] != "<end_of_code>"
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="<end_of_code> is not marked special"):
        load_policy(copied)


def test_a_ppm_must_have_one_label(make_folder, tmp_path: FilePath) -> None:
    folder = make_folder(tmp_path / "two", "Qwen2ForSequenceClassification", seed=1, num_labels=2)
    with pytest.raises(CheckpointError, match="expected a PPM with 1 label, found 2"):
        load_ppm(folder)


def test_policy_and_ppm_cannot_be_exchanged(policy_folder: FilePath, ppm_folder: FilePath) -> None:
    with pytest.raises(CheckpointError, match="not a PPM"):
        load_ppm(policy_folder)
    with pytest.raises(CheckpointError, match="not a policy"):
        load_policy(ppm_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "expected model_type qwen2, found 'llama'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"num_hidden_layers": None}, "positive num_hidden_layers, found None"),
        ({"num_hidden_layers": 3}, r"expected model.layers.2.input_layernorm.weight of \[128\], found none"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn' are not supported"),
        ({"vocab_size": 300}, r"expected model.embed_tokens.weight of \[300, 128\], found \[290, 128\]"),
    ],
)
def test_an_unsupported_configuration_is_refused(copied: FilePath, changes: dict[str, object], message: str) -> None:
    change_config(copied, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_policy(copied)


def test_a_tokenizer_larger_than_the_model_is_refused(make_folder, tmp_path: FilePath) -> None:
    folder = make_folder(tmp_path / "small", "Qwen2ForCausalLM", seed=1, vocab_size=100)
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, the model only 100"):
        load_policy(folder)


def test_an_untied_head_is_read(make_folder, tmp_path: FilePath) -> None:
    folder = make_folder(tmp_path / "untied", "Qwen2ForCausalLM", seed=1, tie_word_embeddings=False)
    checkpoint = load_policy(folder)
    assert not torch.equal(checkpoint.head, checkpoint.weights["model.embed_tokens.weight"])
