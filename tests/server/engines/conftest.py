# pyright: basic
"""Tiny random models in Hugging Face folders, and the engines that the contract is run on."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path as FilePath

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from search.format import SPECIAL_TOKENS
from search.protocols import Policy, StepScorer
from server.engines.checkpoint import Checkpoint, load_policy, load_ppm
from server.engines.compute import ComputeThread
from server.engines.rendering import END_OF_TEXT
from server.engines.torch_policy import TorchPolicy
from server.engines.torch_ppm import TorchScorer
from server.engines.torch_runtime import TorchRuntime

CONTEXT_TOKENS = 1024
VOCABULARY_SIZE = 290

MakeFolder = Callable[..., FilePath]
OpenPolicy = Callable[..., AbstractAsyncContextManager[Policy]]
OpenScorer = Callable[[], AbstractAsyncContextManager[StepScorer]]


def save_tokenizer(folder: FilePath) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[*SPECIAL_TOKENS, END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["# Add the numbers\ntotal = 12 + 30\nprint(total)", "What is 3 times 4?"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def save_model(folder: FilePath, model_class: str, *, seed: int, **changes: object) -> None:
    """Random weights, spread widely enough that likely and unlikely tokens differ clearly."""
    import transformers

    config = transformers.Qwen2Config(
        **{
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT_TOKENS,
            "tie_word_embeddings": model_class == "Qwen2ForCausalLM",
            "initializer_range": 0.15,
            "rope_theta": 20_000.0,
            "num_labels": 1,
            **changes,
        }
    )
    torch.manual_seed(seed)
    model = getattr(transformers, model_class)(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(folder)


@pytest.fixture(scope="session", autouse=True)
def one_core() -> None:
    """For the reference models: the tests share the machine, and sums come out alike."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_folder() -> MakeFolder:
    """Writes a model folder with the given changes to the tiny model's configuration."""

    def make(folder: FilePath, model_class: str, *, seed: int, **changes: object) -> FilePath:
        save_model(folder, model_class, seed=seed, **changes)
        save_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, make_folder: MakeFolder) -> FilePath:
    return make_folder(tmp_path_factory.mktemp("models") / "policy", "Qwen2ForCausalLM", seed=1)


@pytest.fixture(scope="session")
def ppm_folder(tmp_path_factory: pytest.TempPathFactory, make_folder: MakeFolder) -> FilePath:
    return make_folder(tmp_path_factory.mktemp("models") / "ppm", "Qwen2ForSequenceClassification", seed=2)


@pytest.fixture(scope="session")
def policy_checkpoint(policy_folder: FilePath) -> Checkpoint:
    return load_policy(policy_folder)


@pytest.fixture(scope="session")
def ppm_checkpoint(ppm_folder: FilePath) -> Checkpoint:
    return load_ppm(ppm_folder)


@pytest.fixture
def endless_checkpoint(policy_checkpoint: Checkpoint) -> Checkpoint:
    """A policy that never likes a stop token best."""
    head = policy_checkpoint.head.clone()
    head[list(policy_checkpoint.tokenizer.stops)] = 0
    return dataclasses.replace(policy_checkpoint, head=head)


@pytest.fixture
def runtime() -> TorchRuntime:
    """One core, for the same reason."""
    return TorchRuntime(compute=ComputeThread(threads=1))


@pytest.fixture(params=["torch"])
def open_policy(request: pytest.FixtureRequest) -> OpenPolicy:
    """Opens a policy over the tiny model: every engine that can serve it runs the contract."""
    match request.param:
        case "torch":
            checkpoint = request.getfixturevalue("policy_checkpoint")
            runtime = request.getfixturevalue("runtime")
            return lambda **options: TorchPolicy(checkpoint, runtime=runtime, **options)
        case unknown:
            raise ValueError(unknown)


@pytest.fixture(params=["torch"])
def open_scorer(request: pytest.FixtureRequest) -> OpenScorer:
    match request.param:
        case "torch":
            checkpoint = request.getfixturevalue("ppm_checkpoint")
            runtime = request.getfixturevalue("runtime")
            return lambda: TorchScorer(checkpoint, runtime=runtime)
        case unknown:
            raise ValueError(unknown)
