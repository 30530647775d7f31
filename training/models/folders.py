# pyright: basic
"""Model folders: opens models for training, with or without adapters, and saves them for serving.

A reward model is trained as transformers' `*ForTokenClassification`, whose forward pass gives the head of every token,
and saved as `*ForSequenceClassification` with the same weights, which engines read at the last token. The latter's own
forward pass would look for that token by the padding token, which may end a path.
"""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.utils import logging

from search.format import SPECIAL_TOKENS
from server.engines.model_folder import ModelFolder
from server.engines.rendering import END_OF_TEXT
from server.engines.self_check import write_self_check
from training.recipe import Lora

_HEAD = "score"
_HEAD_STD = 0.02
"""Of a new head: its first scores are near 0."""
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.json", "merges.txt", "tokenizer.model"),
)


def open_policy(folder: Path) -> PreTrainedModel:
    """A causal language model in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def open_reward_model(policy: Path, *, seed: int) -> PreTrainedModel:
    """The policy's body with a new scalar head, in float32."""
    config = AutoConfig.from_pretrained(policy, num_labels=1)
    config.classifier_dropout, config.token_classification_bias = 0.0, False
    model = AutoModelForTokenClassification.from_pretrained(policy, config=config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(model.score.weight, std=_HEAD_STD, generator=generator)
    return model


def with_adapters(model: PreTrainedModel, lora: Lora | None, *, folder: Path, seed: int) -> nn.Module:
    """The model, or adapters over it, which also train a reward head and the step format's tokens."""
    if lora is None:
        return model
    torch.manual_seed(seed)
    linear = {name.rpartition(".")[2] for name, module in model.base_model.named_modules() if _is_linear(module)}
    tokenizer = ModelFolder(folder).step_tokenizer
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(linear),
        modules_to_save=[_HEAD] if hasattr(model, _HEAD) else None,
        trainable_token_indices=sorted(tokenizer.special_ids[token] for token in SPECIAL_TOKENS),
    )
    return get_peft_model(model, config)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def merged(model: nn.Module, weights: dict[str, Tensor]) -> PreTrainedModel:
    """A model with the trained weights, in bfloat16, without adapters."""
    model.load_state_dict(weights)
    whole = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model  # type: ignore[operator]
    return _in_bfloat16(whole)  # type: ignore[arg-type]


def save_policy(model: PreTrainedModel, start: Path, folder: Path) -> None:
    """Write the policy with the tokenizer of its start."""
    save_for_serving(model, folder)
    _copy_tokenizer(start, folder)


def save_reward_model(model: PreTrainedModel, policy: Path, folder: Path) -> None:
    """Write the model with the policy's tokenizer and the scores that engines are held to."""
    config = AutoConfig.from_pretrained(policy, num_labels=1)
    if config.pad_token_id is None:
        config.pad_token_id = ModelFolder(policy).step_tokenizer.special_ids[END_OF_TEXT]
    with torch.device("meta"):
        served = AutoModelForSequenceClassification.from_config(config)
    served.load_state_dict(model.state_dict(), assign=True)
    save_for_serving(served, folder)
    _copy_tokenizer(policy, folder)
    write_self_check(folder)


@contextmanager
def quiet_libraries() -> Generator[None]:
    """Without the progress bars and notes of transformers: that a new head is new is no news."""
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def training_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_for_serving(model: PreTrainedModel, folder: Path) -> None:
    """Write bfloat16 weights and the configuration in the standard layout."""
    _in_bfloat16(model).save_pretrained(folder)


def _in_bfloat16(model: PreTrainedModel) -> PreTrainedModel:
    """The model with rounded weights. Its frequencies of positions stay exact, as they are when it is opened again."""
    for weight in model.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return model


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
