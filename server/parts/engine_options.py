"""Engine options: the settings as options of the engines, and the request id and trace that calls of engines carry."""

from pydantic import SecretStr

from server.engines.choice import EngineOptions, RemoteOptions
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.vllm.arguments import Label, VllmOptions
from server.engines.vllm.memory import GB, MemoryShare
from server.observability.tracing import outgoing_headers, outgoing_request_id, outgoing_trace
from server.settings.settings import Settings


def engine_options(settings: Settings) -> EngineOptions:
    """The options that these settings mean."""
    return EngineOptions(backend=settings.engine, vllm=_vllm_options(settings), remote=_remote_options(settings))


def _vllm_options(settings: Settings) -> VllmOptions:
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


def _remote_options(settings: Settings) -> RemoteOptions | None:
    if settings.policy_url is None or settings.ppm_url is None:
        return None
    return RemoteOptions(
        policy=_address(settings.policy_url, settings.policy_api_key),
        ppm=_address(settings.ppm_url, settings.ppm_api_key),
        limits=RemoteLimits(answer_s=settings.remote_timeout_s),
    )


def _address(url: str, key: SecretStr | None) -> RemoteAddress:
    return RemoteAddress(url=url, api_key=None if key is None else key.get_secret_value(), headers=outgoing_headers)
