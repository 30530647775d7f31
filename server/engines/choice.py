"""The choice of engines: which code serves a policy and a PPM, by backend and by what their folders hold.

                       torch                     vllm                       openai
policy, step format    `torch.policy`            `vllm.completer`           `remote.completer`
policy, instruct       `fewshot`, transformers   `vllm.completer`           `remote.completer`
PPM, standard          `torch.ppm`, or `prm`     `vllm.ppm`                 `remote.ppm`
PPM, process reward    `prm`, transformers       `vllm.ppm`                 `remote.ppm`
PPM, value head        `prm`, transformers       refused: convert it        refused: convert it by `prm_convert`

A completer continues token ids; `completion_policy` makes a policy of it, by the step format or a few-shot prompt.
A standard PPM that was made for another policy than the one it serves reads the steps by their text. The libraries of a
backend are imported only where it is chosen.
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from server.bundle.folders import ModelFolders
from server.engines.completion_policy import CompletionPolicyEngine, StepFormat, TrainedFormat
from server.engines.errors import CheckpointError
from server.engines.model_folder import (
    VALUE_HEAD_FILE,
    ModelFolder,
    PolicyKind,
    PpmKind,
    read_policy_folder,
    read_ppm_folder,
)
from server.engines.prm.pooling import RAW_SCORE, STEP_PROBABILITY, Pooling
from server.engines.prm.rendering import PrmTokens, StepTextTokens
from server.engines.protocols import EngineName, Engines, PolicyEngine, ScorerEngine
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
    """For the backend openai."""


class _Backend(Protocol):
    """A column of the table."""

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        """Raises `CheckpointError`."""
        ...

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        """`reads_policy_tokens`: whether policy and PPM share a tokenizer. Raises `CheckpointError`."""
        ...


def make_engines(folders: ModelFolders, options: EngineOptions) -> Engines:
    """Engines that are ready to be entered. Blocks for seconds. Raises `EngineError`.

    Example: `make_engines(bundled_models(), EngineOptions(backend="torch"))`.
    """
    policy, ppm = ModelFolder(folders.policy), ModelFolder(folders.ppm)
    reads_policy_tokens = _reads_policy_tokens(policy, ppm)
    backend = _backend(options, policy, ppm)
    return Engines(policy=backend.policy(policy), ppm=backend.ppm(ppm, reads_policy_tokens=reads_policy_tokens))


def _backend(options: EngineOptions, policy: ModelFolder, ppm: ModelFolder) -> _Backend:
    if options.backend == "openai":
        if options.remote is None:
            raise ValueError("the backend openai needs the addresses of its servers")
        return _Remote(options.remote)
    if options.backend == "vllm" or (options.backend == "auto" and suits_this_machine()):
        return _Vllm(policy, ppm, options.vllm)
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

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        if folder.policy_kind is PolicyKind.INSTRUCT:
            from server.engines.fewshot.format import read_format
            from server.engines.fewshot.transformers_completer import TransformersCompleter

            few_shot = read_format(folder)
            completer = TransformersCompleter(folder.path, few_shot, runtime=self._runtime)
            return CompletionPolicyEngine(completer, few_shot)
        from server.engines.torch.checkpoint import load_policy
        from server.engines.torch.policy import TorchPolicyEngine

        return TorchPolicyEngine(load_policy(folder.path), runtime=self._runtime)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        if folder.ppm_kind is PpmKind.STANDARD and reads_policy_tokens:
            from server.engines.torch.checkpoint import load_ppm
            from server.engines.torch.ppm import TorchScorer

            return TorchScorer(load_ppm(folder.path), runtime=self._runtime)
        from server.engines.prm.heads import read_head
        from server.engines.prm.scorer import PrmScorer

        rendering = ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
        return PrmScorer(folder.path, rendering, read_head(folder), runtime=self._runtime)


class _Vllm:
    """vLLM engines beside this process."""

    def __init__(self, policy: ModelFolder, ppm: ModelFolder, options: VllmOptions) -> None:
        """Looks at the memory before anything is started. Raises `MemoryRefused`."""
        check_memory(
            {EngineName.POLICY: policy, EngineName.PPM: ppm},
            {name: options.share(name) for name in EngineName},
            tensor_parallel=options.tensor_parallel,
        )
        self._options = options
        self._turn = asyncio.Lock()

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        from server.engines.vllm.completer import VllmCompleter

        step_format = step_format_of(read_policy_folder(folder.path))
        return CompletionPolicyEngine(VllmCompleter(folder, step_format, self._options, turn=self._turn), step_format)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        from server.engines.vllm.ppm import VllmScorer

        if folder.ppm_kind is PpmKind.STANDARD:
            read_ppm_folder(folder.path)
        pooling, rendering = pooling_of(folder), ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
        return VllmScorer(folder, rendering, pooling, self._options, turn=self._turn)


class _Remote:
    """vLLM servers elsewhere. The folders need hold no weights, only configuration and tokenizer."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        from server.engines.remote.completer import RemoteCompleter

        step_format, options = step_format_of(folder), self._options
        completer = RemoteCompleter(
            options.policy, step_format, context_tokens=folder.context_tokens, limits=options.limits
        )
        return CompletionPolicyEngine(completer, step_format)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        from server.engines.remote.ppm import RemoteScorer

        pooling, rendering = pooling_of(folder), ppm_rendering(folder, reads_policy_tokens=reads_policy_tokens)
        return RemoteScorer(
            self._options.ppm,
            rendering,
            pooling,
            context_tokens=folder.context_tokens,
            limits=self._options.limits,
        )


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
