"""The choice of engine: makes the engines that the settings ask for. Imports an engine's libraries only then."""

from pydantic import SecretStr

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.protocols import Engines
from server.engines.remote_client import RemoteAddress, RemoteLimits
from server.engines.remote_engines import remote_engines
from server.engines.vllm_arguments import VllmOptions
from server.engines.vllm_memory import GB, MemoryShare
from server.settings import Settings


def make_engines(folders: ModelFolders, settings: Settings) -> Engines:
    """Engines that are ready to be entered. Blocks for seconds. Raises `EngineError`."""
    engines = _made(folders, settings)
    if engines.policy.context_tokens <= settings.max_step_tokens:
        raise CheckpointError(
            f"{folders.policy}: a context of {engines.policy.context_tokens} tokens has no room for a problem and a "
            f"step of {settings.max_step_tokens}; lower RSTAR_MAX_STEP_TOKENS"
        )
    return engines


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
    )


def _made(folders: ModelFolders, settings: Settings) -> Engines:
    from server.engines.torch_engines import torch_engines  # noqa: PLC0415
    from server.engines.vllm_engines import suits_this_machine, vllm_engines  # noqa: PLC0415

    if settings.policy_url is not None and settings.ppm_url is not None and settings.engine == "openai":
        return remote_engines(
            RemoteAddress(url=settings.policy_url, api_key=_revealed(settings.policy_api_key)),
            RemoteAddress(url=settings.ppm_url, api_key=_revealed(settings.ppm_api_key)),
            folders,
            limits=RemoteLimits(answer_s=settings.remote_timeout_s),
        )
    if settings.engine == "vllm" or (settings.engine == "auto" and suits_this_machine()):
        return vllm_engines(folders, vllm_options(settings))
    return torch_engines(folders)


def _revealed(key: SecretStr | None) -> str | None:
    return None if key is None else key.get_secret_value()
