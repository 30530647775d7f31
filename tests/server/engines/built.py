"""Single engines, made as `server.engines.choice` makes them, for tests without a pair of engines."""

import asyncio
from pathlib import Path as FilePath

from server.bundle.folders import ModelFolders
from server.engines.choice import EngineOptions, RemoteOptions, make_engines, pooling_of, ppm_rendering, step_format_of
from server.engines.model_folder import ModelFolder
from server.engines.policy import PolicyEngine, TrainedFormat
from server.engines.prm.scorer import transformers_scorer
from server.engines.protocols import Engines
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.completer import RemoteCompleter
from server.engines.remote.ppm import RemoteScorer
from server.engines.rendering import StepTokenizer
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.policy import TorchCompleter
from server.engines.torch.ppm import PathScorer
from server.engines.torch.runtime import TorchRuntime
from server.engines.vllm.arguments import VllmOptions


def torch_policy(checkpoint: Checkpoint, *, max_batch: int = 256, runtime: TorchRuntime | None = None) -> PolicyEngine:
    """A policy of the step format on torch."""
    completer = TorchCompleter(checkpoint, max_batch=max_batch, runtime=runtime)
    return PolicyEngine(completer, TrainedFormat(checkpoint.tokenizer))


def remote_engines(policy: RemoteAddress, ppm: RemoteAddress, folders: ModelFolders) -> Engines:
    return make_engines(folders, EngineOptions(backend="openai", remote=RemoteOptions(policy=policy, ppm=ppm)))


def remote_policy(
    address: RemoteAddress, tokenizer: StepTokenizer, *, context_tokens: int, limits: RemoteLimits | None = None
) -> PolicyEngine:
    """A policy of the step format on a vLLM server."""
    step_format = TrainedFormat(tokenizer)
    completer = RemoteCompleter(address, step_format, context_tokens=context_tokens, limits=limits)
    return PolicyEngine(completer, step_format)


def remote_policy_of(address: RemoteAddress, path: FilePath) -> PolicyEngine:
    """A policy of any kind on a vLLM server."""
    folder = ModelFolder(path)
    step_format = step_format_of(folder)
    completer = RemoteCompleter(address, step_format, context_tokens=folder.context_tokens)
    return PolicyEngine(completer, step_format)


def remote_scorer_of(address: RemoteAddress, path: FilePath, *, reads_policy_tokens: bool = True) -> RemoteScorer:
    """A PPM of any kind on a vLLM server."""
    folder = ModelFolder(path)
    rendering = ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
    return RemoteScorer(address, rendering, pooling_of(folder), context_tokens=folder.context_tokens)


def few_shot_policy(path: FilePath, runtime: TorchRuntime) -> PolicyEngine:
    """An instruct model by transformers."""
    from server.engines.fewshot.format import read_format
    from server.engines.fewshot.transformers_completer import TransformersCompleter

    step_format = read_format(ModelFolder(path))
    return PolicyEngine(TransformersCompleter(ModelFolder(path), step_format.tokenizer, runtime=runtime), step_format)


def prm_scorer(path: FilePath, runtime: TorchRuntime, *, reads_policy_tokens: bool) -> PathScorer:
    """A PPM of any kind by transformers."""
    from server.engines.prm.heads import read_head

    folder = ModelFolder(path)
    rendering = ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
    return transformers_scorer(folder, rendering, read_head(folder), runtime=runtime)


def vllm_policy_of(path: FilePath, options: VllmOptions) -> PolicyEngine:
    """A policy of any kind on vLLM in the tests' process."""
    from server.engines.vllm.completer import VllmCompleter

    folder = ModelFolder(path)
    step_format = step_format_of(folder)
    completer = VllmCompleter(folder, step_format, options, turn=asyncio.Lock())
    return PolicyEngine(completer, step_format)


def vllm_scorer_of(path: FilePath, options: VllmOptions, *, reads_policy_tokens: bool = True):
    """A PPM of any kind on vLLM in the tests' process."""
    from server.engines.vllm.ppm import VllmScorer

    folder = ModelFolder(path)
    rendering = ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
    return VllmScorer(folder, rendering, pooling_of(folder), options, turn=asyncio.Lock())
