"""Model folders: their kind by configuration and tokenizer, and refusals."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path as FilePath

import pytest

from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder, PolicyKind, PpmKind


def folder_of(path: FilePath, config: Mapping[str, object]) -> ModelFolder:
    """A folder with nothing but a configuration."""
    (path / "config.json").write_text(json.dumps(config))
    return ModelFolder(path)


def test_a_policy_without_our_tokens_is_an_instruct_model(chat_folder: FilePath, value_head_folder: FilePath) -> None:
    assert ModelFolder(chat_folder).policy_kind is PolicyKind.INSTRUCT
    assert ModelFolder(value_head_folder).policy_kind is PolicyKind.STEP_FORMAT


def test_a_policy_whose_tokens_can_be_forged_is_refused(policy_folder: FilePath, tmp_path: FilePath) -> None:
    tokenizer = json.loads((policy_folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] != "<end_of_code>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="<end_of_code> is not marked special"):
        _ = ModelFolder(tmp_path).policy_kind


def test_kinds_of_ppm_are_told_apart(prm_folder: FilePath, value_head_folder: FilePath, tmp_path: FilePath) -> None:
    assert ModelFolder(prm_folder).ppm_kind is PpmKind.PROCESS_REWARD
    assert ModelFolder(value_head_folder).ppm_kind is PpmKind.VALUE_HEAD
    folder = folder_of(tmp_path, {"architectures": ["LlamaForSequenceClassification"]})
    assert folder.ppm_kind is PpmKind.STANDARD


def test_a_policy_given_as_ppm_is_refused(chat_folder: FilePath) -> None:
    with pytest.raises(CheckpointError, match=r"no PPM: expected .* found Qwen2ForCausalLM"):
        _ = ModelFolder(chat_folder).ppm_kind


def test_another_architecture_is_refused_by_its_name(ppm_folder: FilePath, tmp_path: FilePath) -> None:
    with pytest.raises(CheckpointError, match=r"not a policy: .* ForCausalLM, found Qwen2ForSequenceClassification"):
        ModelFolder(ppm_folder).check_architecture("ForCausalLM", "policy")
    with pytest.raises(CheckpointError, match="found none"):
        folder_of(tmp_path, {}).check_architecture("ForCausalLM", "policy")


@pytest.mark.parametrize(("config", "labels"), [({}, 2), ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3)])
def test_a_ppm_with_several_labels_is_refused(tmp_path: FilePath, config: Mapping[str, object], labels: int) -> None:
    with pytest.raises(CheckpointError, match=f"expected a PPM with 1 label, found {labels}"):
        folder_of(tmp_path, config).check_single_label()


def test_a_ppm_with_one_label_is_accepted(ppm_folder: FilePath) -> None:
    ModelFolder(ppm_folder).check_single_label()


@pytest.mark.parametrize("value", [None, 0, -1, "8", 1.5])
def test_a_number_that_is_none_is_refused(tmp_path: FilePath, value: object) -> None:
    with pytest.raises(CheckpointError, match="expected a positive max_position_embeddings, found"):
        _ = folder_of(tmp_path, {"max_position_embeddings": value}).context_tokens


def test_a_heads_size_follows_from_the_width_unless_given(tmp_path: FilePath) -> None:
    config = {"hidden_size": 128, "num_attention_heads": 4}
    assert folder_of(tmp_path, config).head_size == 32
    assert folder_of(tmp_path, {**config, "head_dim": 16}).head_size == 16


def test_a_configuration_that_is_not_json_is_named(tmp_path: FilePath) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        _ = ModelFolder(tmp_path).config


def test_the_content_hash_covers_the_value_head(value_head_folder: FilePath, tmp_path: FilePath) -> None:
    copied = FilePath(shutil.copytree(value_head_folder, tmp_path / "copied"))
    assert ModelFolder(copied).content_hash == ModelFolder(value_head_folder).content_hash
    (copied / VALUE_HEAD_FILE).write_bytes(b"another head")
    assert ModelFolder(copied).content_hash != ModelFolder(value_head_folder).content_hash
