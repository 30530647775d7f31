"""Model folders: reads the configuration and tokenizer of a Hugging Face folder, without its weights.

Each file is read once, when it is first needed. A missing or unreadable file raises `CheckpointError`. The names
of its architectures tell which kind of model it holds; an engine that cannot serve the architecture refuses the folder.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path as FilePath
from typing import cast

from search.format import SPECIAL_TOKENS
from server.engines.errors import CheckpointError
from server.engines.rendering import SegmentTokenizer, StepTokenizer

VALUE_HEAD_FILE = "value_head.bin"
_HASH_LENGTH = 12


class PolicyKind(StrEnum):
    """The kind of model in a policy's folder."""

    STEP_FORMAT = "step_format"
    """A model whose tokenizer has the step format's tokens: our own kind."""
    INSTRUCT = "instruct"
    """Any other causal language model, which is asked by a few-shot prompt."""


class PpmKind(StrEnum):
    """The kind of model in a PPM's folder."""

    STANDARD = "standard"
    """A `*ForSequenceClassification` model with one label that reads the step format: our own kind."""
    PROCESS_REWARD = "process_reward"
    """A `Qwen2ForProcessRewardModel`, as Qwen2.5-Math-PRM is."""
    VALUE_HEAD = "value_head"
    """A causal language model with a `value_head.bin`, as rStar-Math publishes it."""


class ModelFolder:
    """One model's folder."""

    def __init__(self, path: FilePath) -> None:
        self.path = path

    def file(self, name: str) -> FilePath:
        """A file that must be there."""
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path}: no such model folder")
        file = self.path / name
        if not file.is_file():
            raise CheckpointError(f"{self.path}: {name} is missing; expected a Hugging Face model folder")
        return file

    def read_json(self, name: str) -> Mapping[str, object]:
        try:
            return cast(Mapping[str, object], json.loads(self.file(name).read_text()))
        except ValueError as error:
            raise CheckpointError(f"{self.path}/{name}: not JSON ({error})") from error

    @cached_property
    def config(self) -> Mapping[str, object]:
        return self.read_json("config.json")

    def number(self, name: str) -> int:
        """A positive number of the configuration."""
        value = self.config.get(name)
        if not isinstance(value, int) or value <= 0:
            raise CheckpointError(f"{self.path}/config.json: expected a positive {name}, found {value!r}")
        return value

    @cached_property
    def tokenizer(self) -> SegmentTokenizer:
        """The tokenizer of any model."""
        return SegmentTokenizer(self.file("tokenizer.json"))

    @cached_property
    def step_tokenizer(self) -> StepTokenizer:
        """The tokenizer of a model of the step format."""
        return StepTokenizer(self.file("tokenizer.json"))

    @property
    def weight_files(self) -> Sequence[FilePath]:
        """The weight files, at least one."""
        files = sorted(self.path.glob("*.safetensors"))
        if not files:
            raise CheckpointError(f"{self.path}: no *.safetensors file; other weight formats are not read")
        return files

    @property
    def architectures(self) -> Sequence[str]:
        return cast(Sequence[str], self.config.get("architectures") or [])

    @property
    def context_tokens(self) -> int:
        """The longest sequence that the model was made for."""
        return self.number("max_position_embeddings")

    @property
    def head_size(self) -> int:
        """Numbers in each key and each value."""
        if self.config.get("head_dim") is None:
            return self.number("hidden_size") // self.number("num_attention_heads")
        return self.number("head_dim")

    @cached_property
    def content_hash(self) -> str:
        """sha256 of configuration, tokenizer and weights, a value head's included. The folder's name is not in it."""
        files = [self.file("config.json"), self.file("tokenizer.json"), *self.path.glob("*.safetensors")]
        digest = hashlib.sha256()
        for file in sorted([*files, *self.path.glob(VALUE_HEAD_FILE)]):
            with file.open("rb") as content:
                digest.update(file.name.encode() + hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    @property
    def model_id(self) -> str:
        """Folder name and a hash of the content: two folders with the same id hold the same model."""
        return f"{self.path.resolve().name}@{self.content_hash[:_HASH_LENGTH]}"

    @cached_property
    def policy_kind(self) -> PolicyKind:
        """Raises `CheckpointError` for a tokenizer with the step format's tokens that a problem could forge."""
        if any(word not in self.tokenizer.vocabulary for word in SPECIAL_TOKENS):
            return PolicyKind.INSTRUCT
        self.step_tokenizer  # noqa: B018  # raises
        return PolicyKind.STEP_FORMAT

    @property
    def ppm_kind(self) -> PpmKind:
        """The kind of PPM. Raises `CheckpointError` if the folder holds none."""
        if "Qwen2ForProcessRewardModel" in self.architectures:
            return PpmKind.PROCESS_REWARD
        if any(name.endswith("ForSequenceClassification") for name in self.architectures):
            return PpmKind.STANDARD
        if (self.path / VALUE_HEAD_FILE).is_file():
            return PpmKind.VALUE_HEAD
        raise CheckpointError(
            f"{self.path}: no PPM: expected *ForSequenceClassification, Qwen2ForProcessRewardModel or "
            f"{VALUE_HEAD_FILE}, found {', '.join(self.architectures) or 'none'}"
        )

    def check_architecture(self, ending: str, kind: str) -> None:
        """Raise `CheckpointError` where no architecture has that ending."""
        if not any(name.endswith(ending) for name in self.architectures):
            found = ", ".join(self.architectures) or "none"
            raise CheckpointError(
                f"{self.path}: not a {kind}: expected an architecture that ends in {ending}, found {found}"
            )

    def check_single_label(self) -> None:
        """Raise `CheckpointError` for a `*ForSequenceClassification` model with more or fewer labels than one."""
        # transformers writes the labels only where there are not two of them.
        labels = len(cast(Mapping[str, str], self.config.get("id2label", {"0": "", "1": ""})))
        if labels != 1:
            raise CheckpointError(f"{self.path}: expected a PPM with 1 label, found {labels}")


def has_content(model_id: str, content_hash: str) -> bool:
    """Whether the model of that id has this content. False for models elsewhere: their ids name a server instead."""
    return model_id.rpartition("@")[2] == content_hash[:_HASH_LENGTH]
