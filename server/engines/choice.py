"""The choice of engines: which code serves a policy and a PPM, by backend and by what their folders hold.

                       torch                     vllm                       openai
policy, step format    `torch.policy`            `vllm.completer`           `remote.completer`
policy, instruct       `fewshot`, transformers   `vllm.completer`           `remote.completer`
PPM, standard          `torch.ppm`, or `prm`     `vllm.ppm`                 `remote.ppm`
PPM, process reward    `prm`, transformers       `vllm.ppm`                 `remote.ppm`
PPM, value head        `prm`, transformers       refused: convert it        refused: convert it by `prm_convert`

A completer continues token ids; `policy` makes a policy of it, by the step format or a few-shot prompt.
A standard PPM that was made for another policy than the one it serves reads the steps by their text. The libraries of a
backend are imported only where it is chosen.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Literal, Protocol

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder, PolicyKind, PpmKind
from server.engines.policy import Completer, PolicyEngine, StepFormat, TrainedFormat
from server.engines.prm.pooling import RAW_SCORE, STEP_PROBABILITY, Pooling
from server.engines.prm.rendering import PrmTokens, StepTextTokens
from server.engines.protocols import EngineName, Engines, ScorerEngine
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.rendering import PathRendering, PathTokens
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import check_memory, suits_this_machine

if TYPE_CHECKING:
    from server.engines.torch.runtime import TorchRuntime

BackendName = Literal["auto", "torch", "vllm", "openai"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where the vLLM servers are."""

    policy: RemoteAddress
    ppm: RemoteAddress
    limits: RemoteLimits = field(default_factory=RemoteLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How to run the models. Of `torch`, `vllm` and `remote` only that of the backend is read."""

    backend: BackendName = "auto"
    """auto: vllm where it is installed beside a GPU, else torch."""
    torch: "TorchRuntime | None" = None
    """By default that of a server which has the cores to itself."""
    vllm: VllmOptions = field(default_factory=VllmOptions)
    remote: RemoteOptions | None = None
    """Options of the backend openai."""


class _Backend(Protocol):
    """A column of the table. Raises `CheckpointError` for folders that it cannot serve."""

    def completer(self, folder: ModelFolder, step_format: StepFormat) -> Completer:
        """A completer for a policy that reads `step_format`."""
        ...

    def ppm(self, folder: ModelFolder, rendering: PathRendering) -> ScorerEngine:
        """A scorer for a PPM that reads paths in `rendering`."""
        ...


def make_engines(folders: ModelFolders, options: EngineOptions) -> Engines:
    """Engines that are ready to be entered. Blocks for seconds. Raises `EngineError`.

    Example: `make_engines(bundled_models(), EngineOptions(backend="torch"))`.
    """
    policy, ppm = ModelFolder(folders.policy), ModelFolder(folders.ppm)
    rendering = ppm_rendering(ppm, reads_policy_tokens=_reads_policy_tokens(policy, ppm))
    backend = _backend(options, {EngineName.POLICY: policy, EngineName.PPM: ppm})
    return Engines(policy=_policy(backend, policy), ppm=backend.ppm(ppm, rendering))


def make_policy(path: FilePath, options: EngineOptions) -> PolicyEngine:
    """Make a policy only, for searches without a PPM. Otherwise like `make_engines`."""
    folder = ModelFolder(path)
    return _policy(_backend(options, {EngineName.POLICY: folder}), folder)


def _policy(backend: _Backend, folder: ModelFolder) -> PolicyEngine:
    step_format = step_format_of(folder)
    return PolicyEngine(backend.completer(folder, step_format), step_format)


def _backend(options: EngineOptions, models: Mapping[EngineName, ModelFolder]) -> _Backend:
    if options.backend == "openai":
        if options.remote is None:
            raise ValueError("the backend openai needs the addresses of its servers")
        return _Remote(options.remote)
    if options.backend == "vllm" or (options.backend == "auto" and suits_this_machine()):
        return _Vllm(models, options.vllm)
    return _Torch(options.torch)


def _reads_policy_tokens(policy: ModelFolder, ppm: ModelFolder) -> bool:
    """Whether steps go to the PPM as the policy's own tokens. Raises `CheckpointError` where a PPM of our own kind
    should read them, and cannot."""
    kind = ppm.ppm_kind
    if policy.policy_kind is PolicyKind.INSTRUCT or kind is PpmKind.PROCESS_REWARD:
        return False
    written, read = policy.step_tokenizer, ppm.step_tokenizer
    is_same = (written.size, written.special_ids) == (read.size, read.special_ids)
    if kind is PpmKind.STANDARD and not is_same:
        raise CheckpointError(f"{ppm.path} reads other tokens than {policy.path}; expected a PPM of that policy")
    return is_same


class _Torch:
    """This process's own engines: ours for models of the step format, transformers for all others."""

    def __init__(self, runtime: "TorchRuntime | None") -> None:
        from server.engines.torch.runtime import serving_runtime

        self._runtime = runtime or serving_runtime()

    def completer(self, folder: ModelFolder, step_format: StepFormat) -> Completer:
        if folder.policy_kind is PolicyKind.INSTRUCT:
            from server.engines.fewshot.transformers_completer import TransformersCompleter

            return TransformersCompleter(folder, step_format.tokenizer, runtime=self._runtime)
        from server.engines.torch.checkpoint import load_policy
        from server.engines.torch.policy import TorchCompleter

        return TorchCompleter(load_policy(folder.path), runtime=self._runtime)

    def ppm(self, folder: ModelFolder, rendering: PathRendering) -> ScorerEngine:
        if folder.ppm_kind is PpmKind.STANDARD and isinstance(rendering, PathTokens):
            from server.engines.torch.checkpoint import load_ppm
            from server.engines.torch.ppm import torch_scorer

            return torch_scorer(load_ppm(folder.path), runtime=self._runtime)
        from server.engines.prm.heads import read_head
        from server.engines.prm.scorer import transformers_scorer

        return transformers_scorer(folder, rendering, read_head(folder), runtime=self._runtime)


class _Vllm:
    """vLLM engines beside this process."""

    def __init__(self, models: Mapping[EngineName, ModelFolder], options: VllmOptions) -> None:
        """Looks at the memory before anything is started. Raises `MemoryRefused`."""
        shares = {name: options.share(name) for name in models}
        check_memory(models, shares, tensor_parallel=options.tensor_parallel)
        self._options = options
        self._turn = asyncio.Lock()

    def completer(self, folder: ModelFolder, step_format: StepFormat) -> Completer:
        from server.engines.vllm.completer import VllmCompleter

        folder.check_architecture("ForCausalLM", "policy")
        return VllmCompleter(folder, step_format, self._options, turn=self._turn)

    def ppm(self, folder: ModelFolder, rendering: PathRendering) -> ScorerEngine:
        from server.engines.vllm.ppm import VllmScorer

        if folder.ppm_kind is PpmKind.STANDARD:
            folder.check_single_label()
        return VllmScorer(folder, rendering, pooling_of(folder), self._options, turn=self._turn)


class _Remote:
    """vLLM servers elsewhere. The folders need hold no weights, only configuration and tokenizer."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options

    def completer(self, folder: ModelFolder, step_format: StepFormat) -> Completer:
        from server.engines.remote.completer import RemoteCompleter

        address, limits = self._options.policy, self._options.limits
        return RemoteCompleter(address, step_format, context_tokens=folder.context_tokens, limits=limits)

    def ppm(self, folder: ModelFolder, rendering: PathRendering) -> ScorerEngine:
        from server.engines.remote.ppm import RemoteScorer

        address, limits = self._options.ppm, self._options.limits
        pooling = pooling_of(folder)
        return RemoteScorer(address, rendering, pooling, context_tokens=folder.context_tokens, limits=limits)


def step_format_of(folder: ModelFolder) -> StepFormat:
    """How the policy reads paths and writes steps. Raises `CheckpointError`."""
    if folder.policy_kind is PolicyKind.INSTRUCT:
        from server.engines.fewshot.format import read_format

        return read_format(folder)
    return TrainedFormat(folder.step_tokenizer)


def ppm_rendering(folder: ModelFolder, *, reads_policy_tokens: bool) -> PathRendering:
    """How the PPM reads paths. Raises `CheckpointError`."""
    if folder.ppm_kind is PpmKind.PROCESS_REWARD:
        return PrmTokens(folder.file("tokenizer.json"))
    return PathTokens(folder.step_tokenizer) if reads_policy_tokens else StepTextTokens(folder.step_tokenizer)


def pooling_of(folder: ModelFolder) -> Pooling:
    """How vLLM is asked for scores. Raises `CheckpointError` for a kind of PPM that it does not read."""
    kind = folder.ppm_kind
    if kind is PpmKind.VALUE_HEAD:
        raise CheckpointError(
            f"{folder.path}: vLLM does not read {VALUE_HEAD_FILE}; convert it by server.engines.prm_convert"
        )
    return STEP_PROBABILITY if kind is PpmKind.PROCESS_REWARD else RAW_SCORE
