"""Model folders: what a Hugging Face folder says about its model, without loading the weights.

Enough for an engine that reads the weights itself, in another process: name, tokenizer, context and memory. Knows no
architecture; a part that cannot be served is refused by the engine.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import cast

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.rendering import StepTokenizer

_HASH_LENGTH = 12
_BYTES_PER_NUMBER = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model that can be served from its folder."""

    path: FilePath
    model_id: str
    tokenizer: StepTokenizer
    context_tokens: int
    """The longest sequence."""
    key_values_per_token: int
    """Numbers that attention keeps of one token."""
    bytes_on_disk: int
    """Of the weights."""
    dtype: str
    """The type of the weights on disk."""

    def key_value_bytes(self, dtype: str) -> int:
        """Memory of one token's keys and values in that type; `auto` is the type on disk."""
        return self.key_values_per_token * self._bytes_per_number(dtype)

    def weights_bytes(self, dtype: str) -> int:
        """Memory of the weights in that type."""
        return self.bytes_on_disk * self._bytes_per_number(dtype) // self._bytes_per_number("auto")

    def _bytes_per_number(self, dtype: str) -> int:
        return _BYTES_PER_NUMBER.get(self.dtype if dtype == "auto" else dtype, 2)


def read_policy_folder(folder: FilePath) -> ModelFolder:
    """A folder of a `*ForCausalLM` model with the step format's tokens. Raises `CheckpointError`."""
    config = read_config(folder)
    _check_architecture(folder, config, "ForCausalLM", "policy")
    return _read(folder, config)


def read_ppm_folder(folder: FilePath) -> ModelFolder:
    """A folder of a `*ForSequenceClassification` model with one label. Raises `CheckpointError`."""
    config = read_config(folder)
    _check_architecture(folder, config, "ForSequenceClassification", "PPM")
    # transformers writes the labels only where there are not two of them.
    labels = len(cast(Mapping[str, str], config.get("id2label", {"0": "", "1": ""})))
    if labels != 1:
        raise CheckpointError(f"{folder}: expected a PPM with 1 label, found {labels}")
    return _read(folder, config)


def check_same_tokens(folders: ModelFolders, policy: StepTokenizer, ppm: StepTokenizer) -> None:
    """Raise `CheckpointError` where the PPM reads other tokens than the policy writes."""
    if (policy.size, policy.special_ids) != (ppm.size, ppm.special_ids):
        raise CheckpointError(f"{folders.ppm} reads other tokens than {folders.policy}; expected a PPM of that policy")


def model_id(folder: FilePath) -> str:
    """Folder name and a hash of the content: two folders with the same id hold the same model."""
    digest = hashlib.sha256()
    for file in sorted([folder / "config.json", folder / "tokenizer.json", *folder.glob("*.safetensors")]):
        with file.open("rb") as content:
            digest.update(file.name.encode() + hashlib.file_digest(content, "sha256").digest())
    return f"{folder.resolve().name}@{digest.hexdigest()[:_HASH_LENGTH]}"


def read_config(folder: FilePath, name: str = "config.json") -> Mapping[str, object]:
    try:
        return cast(Mapping[str, object], json.loads(existing_file(folder, name).read_text()))
    except ValueError as error:
        raise CheckpointError(f"{folder}/{name}: not JSON ({error})") from error


def existing_file(folder: FilePath, name: str) -> FilePath:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such model folder")
    file = folder / name
    if not file.is_file():
        raise CheckpointError(f"{folder}: {name} is missing; expected a Hugging Face model folder")
    return file


def weight_files(folder: FilePath) -> list[FilePath]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: no *.safetensors file; other weight formats are not read")
    return files


def config_number(folder: FilePath, config: Mapping[str, object], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value <= 0:
        raise CheckpointError(f"{folder}/config.json: expected a positive {name}, found {value!r}")
    return value


def _check_architecture(folder: FilePath, config: Mapping[str, object], ending: str, kind: str) -> None:
    architectures = cast(list[str], config.get("architectures") or [])
    if not any(name.endswith(ending) for name in architectures):
        found = ", ".join(architectures) or "none"
        raise CheckpointError(f"{folder}: not a {kind}: expected an architecture that ends in {ending}, found {found}")


def _read(folder: FilePath, config: Mapping[str, object]) -> ModelFolder:
    files = weight_files(folder)
    heads = config_number(folder, config, "num_attention_heads")
    shared = config_number(folder, {"num_key_value_heads": heads, **config}, "num_key_value_heads")
    width = config_number(folder, config, "hidden_size")
    head_size = width // heads if config.get("head_dim") is None else config_number(folder, config, "head_dim")
    return ModelFolder(
        path=folder,
        model_id=model_id(folder),
        tokenizer=StepTokenizer(existing_file(folder, "tokenizer.json")),
        context_tokens=config_number(folder, config, "max_position_embeddings"),
        key_values_per_token=2 * config_number(folder, config, "num_hidden_layers") * shared * head_size,
        bytes_on_disk=sum(file.stat().st_size for file in files),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"),
    )
