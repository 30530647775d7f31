"""The choice of engine: makes the engines that the settings ask for. Imports an engine's libraries only then."""

from pydantic import SecretStr

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.model_kinds import are_our_own
from server.engines.protocols import Engines
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.engines import remote_engines
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.memory import GB, MemoryShare
from server.observability.tracing import outgoing_headers, outgoing_request_id, outgoing_trace
from server.settings.settings import Settings


def make_engines(folders: ModelFolders, settings: Settings) -> Engines:
    """Engines that are ready to be entered, whatever models the folders hold. Blocks for seconds.

    Raises `EngineError`.
    """
    own = are_our_own(folders)
    if settings.policy_url is not None and settings.ppm_url is not None and settings.engine == "openai":
        policy = _address(settings.policy_url, settings.policy_api_key)
        ppm = _address(settings.ppm_url, settings.ppm_api_key)
        limits = RemoteLimits(answer_s=settings.remote_timeout_s)
        if own:
            return remote_engines(policy, ppm, folders, limits=limits)
        from server.engines.off_the_shelf import remote_engines_of_any_make

        return remote_engines_of_any_make(policy, ppm, folders, limits=limits)
    return _engines_of_this_machine(folders, settings, own=own)


def check_room(engines: Engines, settings: Settings) -> None:
    """Raise `CheckpointError` where no problem fits beside a step. To be asked of engines that were entered: only then
    is it known how much of a model's context a remote server serves."""
    if engines.policy.context_tokens <= settings.max_step_tokens:
        raise CheckpointError(
            f"{engines.policy.model_id}: a context of {engines.policy.context_tokens} tokens has no room for a problem "
            f"and a step of {settings.max_step_tokens}; lower RSTAR_MAX_STEP_TOKENS"
        )


def vllm_options(settings: Settings) -> VllmOptions:
    return VllmOptions(
        policy=MemoryShare(
            gpu_fraction=settings.vllm_policy_gpu_fraction, cpu_bytes=int(settings.vllm_policy_kv_gb * GB)
        ),
        ppm=MemoryShare(
            gpu_fraction=settings.vllm_ppm_gpu_fraction,
            cpu_bytes=int(settings.vllm_ppm_kv_gb * GB),
            dtype=settings.vllm_ppm_dtype,
        ),
        tensor_parallel=settings.vllm_tensor_parallel,
        label=_label,
    )


def _label() -> Label:
    request_id = outgoing_request_id()
    return Label(trace_headers=outgoing_trace()) if request_id is None else Label(request_id, outgoing_trace())


def _engines_of_this_machine(folders: ModelFolders, settings: Settings, *, own: bool) -> Engines:
    from server.engines.vllm.engines import suits_this_machine, vllm_engines

    if settings.engine == "vllm" or (settings.engine == "auto" and suits_this_machine()):
        if not own:
            raise CheckpointError(
                f"{folders.policy} and {folders.ppm}: the engine vllm serves a policy and a PPM of the step format; "
                "serve other models by vLLM servers and RSTAR_ENGINE=openai, or small ones by RSTAR_ENGINE=torch"
            )
        return vllm_engines(folders, vllm_options(settings))
    if own:
        from server.engines.torch.engines import torch_engines

        return torch_engines(folders)
    from server.engines.off_the_shelf import torch_engines_of_any_make

    return torch_engines_of_any_make(folders)


def _address(url: str, key: SecretStr | None) -> RemoteAddress:
    return RemoteAddress(url=url, api_key=None if key is None else key.get_secret_value(), headers=outgoing_headers)
