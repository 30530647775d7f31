# pyright: basic
"""Tiny random models of the architectures that others publish, as they lie in a folder."""

import json
from pathlib import Path as FilePath

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from search.format import SPECIAL_TOKENS
from server.engines.rendering import END_OF_TEXT

CONTEXT_TOKENS = 4096
CHAT_MARKS = ("<|im_start|>", "<|im_end|>", "<extra_0>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = ["# Add the numbers\ntotal = 12 + 30\nprint(total)\n<end_of_step>\n<end_of_code><answer>", "What is 3 times 4?"]


def save_tokenizer(folder: FilePath, special: tuple[str, ...], *, first: str | None = None) -> int:
    """A tokenizer of bytes and a few words; `first` is put in front of every text. Its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    if first is not None:
        first_id = tokenizer.token_to_id(first)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, first_id)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer.get_vocab_size()


def save_chat_model(folder: FilePath, *, seed: int = 1) -> FilePath:
    """A Qwen2 instruct model: a chat template, and a token that ends the turn."""
    size = _save_chat_tokenizer(folder)
    model = _random(transformers.Qwen2ForCausalLM, _qwen2(size), seed=seed)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "repetition_penalty": 1.3}))
    return folder


def save_plain_model(folder: FilePath, *, seed: int = 2) -> FilePath:
    """A Llama base model: no chat template, and a token in front of every text."""
    folder.mkdir(parents=True)
    size = save_tokenizer(folder, ("<s>", "</s>"), first="<s>")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    shape = transformers.LlamaConfig(
        vocab_size=size + 6,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT_TOKENS,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    )
    _random(transformers.LlamaForCausalLM, shape, seed=seed).save_pretrained(folder)
    return folder


def save_process_reward_model(folder: FilePath, *, seed: int = 3) -> FilePath:
    """As Qwen2.5-Math-PRM: a Qwen2 backbone, two layers on top, and classes mapped to Python files of its own."""
    size = _save_chat_tokenizer(folder)
    torch.manual_seed(seed)
    config = _qwen2(size)
    backbone = _spread(transformers.Qwen2Model(config))
    head = torch.nn.Sequential(
        torch.nn.Linear(config.hidden_size, config.hidden_size),
        torch.nn.ReLU(),
        torch.nn.Linear(config.hidden_size, 2),
    )
    weights = {f"model.{name}": value for name, value in backbone.state_dict().items()}
    weights |= {f"score.{name}": value for name, value in head.state_dict().items()}
    save_weights(folder, weights)
    changes = {
        "architectures": ["Qwen2ForProcessRewardModel"],
        "auto_map": {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"},
    }
    (folder / "config.json").write_text(json.dumps(config.to_dict() | changes))
    return folder


def save_value_head_model(folder: FilePath, *, seed: int = 4, bias: float = 1e-6, shards: int = 1) -> FilePath:
    """As rStar-Math's PPM: a causal model, and the head in a file beside it."""
    folder.mkdir(parents=True)
    size = save_tokenizer(folder, (END_OF_TEXT, *SPECIAL_TOKENS))
    model = _random(transformers.Qwen2ForCausalLM, _qwen2(size), seed=seed)
    model.save_pretrained(folder, max_shard_size="60kB" if shards > 1 else "1GB")
    assert (len(list(folder.glob("*.safetensors"))) > 1) is (shards > 1)
    summary = torch.nn.Linear(64, 1)
    torch.nn.init.normal_(summary.weight, std=0.6)
    torch.nn.init.constant_(summary.bias, bias)
    head = {f"v_head.summary.{name}": value.detach() for name, value in summary.named_parameters()}
    torch.save(head, folder / "value_head.bin")
    return folder


def save_weights(folder: FilePath, weights: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _save_chat_tokenizer(folder: FilePath) -> int:
    folder.mkdir(parents=True)
    size = save_tokenizer(folder, (END_OF_TEXT, *CHAT_MARKS))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return size


def _qwen2(vocabulary: int) -> transformers.Qwen2Config:
    return transformers.Qwen2Config(
        vocab_size=vocabulary + 6,  # padded, as published ones are
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT_TOKENS,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
    )


def _random(model_class: type, config: transformers.PretrainedConfig, *, seed: int) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    return _spread(model_class(config))


def _spread(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """With biases that are not 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()
