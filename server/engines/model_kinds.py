"""Model kinds: what folders hold, told by configuration and tokenizer alone. Loads no weights and no model library."""

from enum import StrEnum
from pathlib import Path as FilePath
from typing import cast

from search.format import SPECIAL_TOKENS
from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.model_folder import existing_file, read_config
from server.engines.rendering import SegmentTokenizer, StepTokenizer

VALUE_HEAD_FILE = "value_head.bin"


class PpmKind(StrEnum):
    """What a PPM's folder holds."""

    STANDARD = "standard"
    """A `*ForSequenceClassification` model with one label that reads the step format: our own kind."""
    PROCESS_REWARD = "process_reward"
    """A `Qwen2ForProcessRewardModel`, as Qwen2.5-Math-PRM is."""
    VALUE_HEAD = "value_head"
    """A causal language model with a `value_head.bin`, as rStar-Math publishes it."""


def are_our_own(folders: ModelFolders) -> bool:
    """Whether both are of our own kind. Raises `CheckpointError` for what is of no known kind."""
    return ppm_kind(folders.ppm) is PpmKind.STANDARD and not needs_few_shots(folders.policy)


def ppm_kind(folder: FilePath) -> PpmKind:
    """Raises `CheckpointError` for what is none of them."""
    architectures = cast(list[str], read_config(folder).get("architectures") or [])
    if "Qwen2ForProcessRewardModel" in architectures:
        return PpmKind.PROCESS_REWARD
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return PpmKind.STANDARD
    if (folder / VALUE_HEAD_FILE).is_file():
        return PpmKind.VALUE_HEAD
    raise CheckpointError(
        f"{folder}: no PPM: expected *ForSequenceClassification, Qwen2ForProcessRewardModel or {VALUE_HEAD_FILE}, "
        f"found {', '.join(architectures) or 'none'}"
    )


def needs_few_shots(folder: FilePath) -> bool:
    """Whether a policy does not know the step format: its tokenizer lacks a token of it.

    Raises `CheckpointError` for one that has them all, but in a way that a problem could forge.
    """
    file = existing_file(folder, "tokenizer.json")
    if all(word in SegmentTokenizer(file).vocabulary for word in SPECIAL_TOKENS):
        StepTokenizer(file)
        return False
    return True
