# pyright: basic
"""Tiny random models in Hugging Face folders, and the engines that the contracts are run on.

To put another engine under the contracts, add it to `POLICY_ENGINES` or `SCORERS`: a function that opens it over a
model folder.
"""

import dataclasses
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from search.format import SPECIAL_TOKENS
from search.protocols import Policy, StepScorer
from search.testing.fakes import ArithmeticPolicy, FunctionScorer
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling, ScorerEngine
from server.engines.rendering import END_OF_TEXT
from server.engines.torch.checkpoint import Checkpoint, load_policy, load_ppm
from server.engines.torch.loop import ComputeThread
from server.engines.torch.ppm import torch_scorer
from server.engines.torch.runtime import TorchRuntime, serving_runtime
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare
from tests.server.engines.built import torch_policy, vllm_policy_of, vllm_scorer_of
from tests.server.engines.remote.stub_server import StubServer, stub_server
from tests.server.engines.remote.vllm_server import open_remote_policy, open_remote_scorer
from tests.server.engines.tiny_models import (
    save_chat_model,
    save_plain_model,
    save_process_reward_model,
    save_value_head_model,
)

if TYPE_CHECKING:
    from server.engines.vllm.ppm import VllmScorer

CONTEXT_TOKENS = 1024
VOCABULARY_SIZE = 290

MakeFolder = Callable[..., FilePath]
View = Callable[[Sampling], Policy]

VLLM = (pytest.mark.vllm, pytest.mark.timeout(900))
"""An engine starts in 20 s on an idle machine."""
_SHARE = MemoryShare(gpu_fraction=0.2, cpu_bytes=100_000_000, dtype="float32")
VLLM_OPTIONS = VllmOptions(policy=_SHARE, ppm=_SHARE)
"""In float32, to be compared with transformers closely."""


@asynccontextmanager
async def open_torch_policy(folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    runtime = TorchRuntime(compute=ComputeThread(threads=1))
    async with torch_policy(load_policy(folder), runtime=runtime) as engine:
        yield engine


@asynccontextmanager
async def open_torch_policy_in_lanes(folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    async with torch_policy(load_policy(folder), runtime=lanes_of_one_core()) as engine:
        yield engine


def lanes_of_one_core() -> TorchRuntime:
    """As a server runs them."""
    return serving_runtime(lambda _: ComputeThread(threads=1))


@asynccontextmanager
async def open_vllm_policy(folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    async with vllm_policy_of(folder, VLLM_OPTIONS) as engine:
        yield engine


@asynccontextmanager
async def open_torch_scorer(folder: FilePath) -> AsyncGenerator[ScorerEngine]:
    runtime = TorchRuntime(compute=ComputeThread(threads=1))
    async with torch_scorer(load_ppm(folder), runtime=runtime) as engine:
        yield engine


@asynccontextmanager
async def open_vllm_scorer(folder: FilePath) -> AsyncGenerator[ScorerEngine]:
    async with vllm_scorer_of(folder, VLLM_OPTIONS) as engine:
        yield engine


POLICY_ENGINES = [
    pytest.param(open_torch_policy, id="torch"),
    pytest.param(open_torch_policy_in_lanes, id="torch-lanes"),
    pytest.param(open_vllm_policy, id="vllm", marks=VLLM),
    pytest.param(open_remote_policy, id="openai", marks=VLLM),
]
SCORERS = [
    pytest.param(open_torch_scorer, id="torch"),
    pytest.param(open_vllm_scorer, id="vllm", marks=VLLM),
    pytest.param(open_remote_scorer, id="openai", marks=VLLM),
]


class Opened:
    """Engines that stay open for the whole run, each opened where it is first asked for."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._engines: dict[tuple[object, FilePath], Any] = {}

    async def get(self, opener: Callable[[FilePath], AbstractAsyncContextManager[Any]], folder: FilePath) -> Any:
        if (opener, folder) not in self._engines:
            self._engines[opener, folder] = None
            self._engines[opener, folder] = await self._stack.enter_async_context(opener(folder))
        engine = self._engines[opener, folder]
        assert engine is not None, "the engine could not be opened; the first test that wanted it says why"
        return engine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def opened() -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:
        yield Opened(stack)


@pytest_asyncio.fixture(loop_scope="session")
async def vllm_policy(opened: Opened, policy_folder: FilePath) -> PolicyEngine:
    return await opened.get(open_vllm_policy, policy_folder)


@pytest_asyncio.fixture(loop_scope="session")
async def vllm_scorer(opened: Opened, ppm_folder: FilePath) -> "VllmScorer":
    return await opened.get(open_vllm_scorer, ppm_folder)


@pytest_asyncio.fixture(loop_scope="session", params=POLICY_ENGINES)
async def policy_engine(request: pytest.FixtureRequest, opened: Opened, policy_folder: FilePath) -> PolicyEngine:
    """Over the tiny model. Tests that use it run in the session's event loop."""
    return await opened.get(request.param, policy_folder)


@pytest_asyncio.fixture(loop_scope="session", params=SCORERS)
async def scorer_engine(request: pytest.FixtureRequest, opened: Opened, ppm_folder: FilePath) -> ScorerEngine:
    return await opened.get(request.param, ppm_folder)


@pytest_asyncio.fixture(loop_scope="session", params=[pytest.param(None, id="fake"), *POLICY_ENGINES])
async def view(request: pytest.FixtureRequest, opened: Opened, policy_folder: FilePath) -> View:
    """Makes policies of each kind, fakes included. Problems must be sums, which is all that the fake can solve."""
    if request.param is None:
        return lambda _: ArithmeticPolicy()
    return (await opened.get(request.param, policy_folder)).policy


@pytest_asyncio.fixture(loop_scope="session", params=[pytest.param(None, id="fake"), *SCORERS])
async def scorer(request: pytest.FixtureRequest, opened: Opened, ppm_folder: FilePath) -> StepScorer:
    """Scorers of each kind, fakes included."""
    if request.param is None:
        return FunctionScorer(lambda path: math.tanh(len(path.steps) - 2))
    return await opened.get(request.param, ppm_folder)


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
            "hidden_size": 128,  # in heads of 32, the least that vLLM has kernels for
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


@pytest.fixture
async def stub() -> AsyncGenerator[StubServer]:
    async with stub_server() as server:
        yield server


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_chat_model(tmp_path_factory.mktemp("models") / "chat")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_plain_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def prm_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_process_reward_model(tmp_path_factory.mktemp("models") / "prm")


@pytest.fixture(scope="session")
def value_head_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_value_head_model(tmp_path_factory.mktemp("models") / "value_head")


@pytest.fixture
def one_thread() -> TorchRuntime:
    """The tests share the machine."""
    return TorchRuntime(compute=ComputeThread(threads=1))
