"""The choice of engines: which code serves a policy and a PPM, by backend and by what their folders hold.

                       torch                     vllm                       openai
policy, step format    `torch.policy`            `vllm.policy`              `remote.policy`
policy, instruct       `fewshot`, transformers   refused                    `fewshot`, remote
PPM, standard          `torch.ppm`, or `prm`     `vllm.ppm`                 `remote.ppm`
PPM, process reward    `prm`, transformers       refused                    `prm`, remote
PPM, value head        `prm`, transformers       refused                    refused: convert it by `prm_convert`

A standard PPM that was made for another policy than the one it serves reads the steps by their text. The libraries of a
backend are imported only where it is chosen.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.model_folder import ModelFolder, PolicyKind, PpmKind, read_policy_folder, read_ppm_folder
from server.engines.protocols import Engines, PolicyEngine, ScorerEngine
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.vllm.arguments import VllmOptions

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
    from server.engines.vllm.engines import suits_this_machine

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
            from server.engines.fewshot.engines import local_instruct_policy

            return local_instruct_policy(folder.path, runtime=self._runtime)
        from server.engines.torch.checkpoint import load_policy
        from server.engines.torch.policy import TorchPolicyEngine

        return TorchPolicyEngine(load_policy(folder.path), runtime=self._runtime)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        if folder.ppm_kind is PpmKind.STANDARD and reads_policy_tokens:
            from server.engines.torch.checkpoint import load_ppm
            from server.engines.torch.ppm import TorchScorer

            return TorchScorer(load_ppm(folder.path), runtime=self._runtime)
        from server.engines.prm.engines import local_prm

        return local_prm(folder.path, reads_policy_tokens=reads_policy_tokens, runtime=self._runtime)


class _Vllm:
    """vLLM engines beside this process."""

    def __init__(self, policy: ModelFolder, ppm: ModelFolder, options: VllmOptions) -> None:
        """Looks at the memory before anything is started. Raises `MemoryRefused`."""
        from server.engines.vllm.engines import check_memory

        if policy.policy_kind is PolicyKind.INSTRUCT or ppm.ppm_kind is not PpmKind.STANDARD:
            raise CheckpointError(
                f"{policy.path} and {ppm.path}: the engine vllm serves a policy and a PPM of the step format; "
                "serve other models by vLLM servers and RSTAR_ENGINE=openai, or small ones by RSTAR_ENGINE=torch"
            )
        check_memory(read_policy_folder(policy.path), read_ppm_folder(ppm.path), options)
        self._options = options
        self._turn = threading.Lock()

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        from server.engines.vllm.policy import VllmPolicyEngine

        return VllmPolicyEngine(read_policy_folder(folder.path), self._options, turn=self._turn)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        from server.engines.vllm.ppm import VllmScorer

        assert reads_policy_tokens, "a standard PPM of a policy of the step format"
        return VllmScorer(read_ppm_folder(folder.path), self._options, turn=self._turn)


class _Remote:
    """vLLM servers elsewhere. The folders need hold no weights, only configuration and tokenizer."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options

    def policy(self, folder: ModelFolder) -> PolicyEngine:
        address, limits = self._options.policy, self._options.limits
        if folder.policy_kind is PolicyKind.INSTRUCT:
            from server.engines.fewshot.engines import remote_instruct_policy

            return remote_instruct_policy(address, folder.path, limits=limits)
        from server.engines.remote.policy import RemotePolicyEngine

        return RemotePolicyEngine(address, folder.step_tokenizer, context_tokens=folder.context_tokens, limits=limits)

    def ppm(self, folder: ModelFolder, *, reads_policy_tokens: bool) -> ScorerEngine:
        from server.engines.prm.engines import remote_prm

        address, limits = self._options.ppm, self._options.limits
        return remote_prm(address, folder.path, reads_policy_tokens=reads_policy_tokens, limits=limits)
