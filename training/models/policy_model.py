# pyright: basic
"""Start models: a small policy from nothing, or any causal language model with the step format's tokens added.

The small policy is a Qwen2. Its tokenizer is byte-level BPE learnt from demonstrations, with digits one by one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from search.format import SPECIAL_TOKENS
from server.engines.rendering import END_OF_TEXT, StepTokenizer
from training.models.folders import open_policy, quiet_libraries, save_for_serving, save_policy
from training.models.job import whole_folder
from training.models.llama import as_qwen2, is_llama


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


@quiet_libraries()
def start_from_scratch(folder: Path, texts: Iterable[str], shape: PolicyShape, *, seed: int) -> None:
    """A start model without training: the tokenizer learnt from `texts`, and random weights."""
    tokenizer = train_tokenizer(texts, vocabulary=shape.vocabulary)
    with whole_folder(folder) as new:
        file = new / "tokenizer.json"
        tokenizer.save(str(file))
        save_tokenizer(file, new, max_length=shape.context)
        save_for_serving(new_policy(shape, seed=seed, end_of_text=StepTokenizer(file).special_ids[END_OF_TEXT]), new)


@quiet_libraries()
def start_from_model(folder: Path, source: Path) -> None:
    """A start model from any causal language model: its weights, and the step format's tokens where it lacks them.

    A Llama becomes a Qwen2, which every engine serves. Raises `training.models.llama.NotQwen2`.
    """
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    known = tokenizer.get_vocab(with_added_tokens=True)
    tokenizer.add_special_tokens([token for token in (END_OF_TEXT, *SPECIAL_TOKENS) if token not in known])
    model = open_policy(source)
    if is_llama(model):
        model = as_qwen2(model)
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        model.resize_token_embeddings(tokenizer.get_vocab_size())
    with whole_folder(folder) as new:
        save_policy(model, source, new)
        tokenizer.save(str(new / "tokenizer.json"))


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


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """Learn merges until the vocabulary, special tokens included, has the given size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, *SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(file: Path, folder: Path, *, max_length: int) -> None:
    """Write the files that transformers and vLLM read, from a bare tokenizer file."""
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(file)),
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
