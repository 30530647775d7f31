"""Engine options: how they follow from the settings."""

from pydantic import SecretStr

from server.parts.engine_options import engine_options
from server.settings.settings import Settings


def test_memory_shares_are_those_of_the_settings() -> None:
    settings = Settings(
        vllm_policy_gpu_fraction=0.6,
        vllm_ppm_gpu_fraction=0.2,
        vllm_policy_kv_gb=2.5,
        vllm_ppm_kv_gb=0.25,
        vllm_ppm_dtype="bfloat16",
        vllm_tensor_parallel=2,
    )
    options = engine_options(settings).vllm
    assert (options.policy.gpu_fraction, options.policy.cpu_bytes) == (0.6, 2_500_000_000)
    assert (options.ppm.gpu_fraction, options.ppm.cpu_bytes) == (0.2, 250_000_000)
    assert (options.ppm.dtype, options.tensor_parallel) == ("bfloat16", 2)


def test_each_remote_server_has_its_own_address_and_key() -> None:
    settings = Settings(
        engine="openai",
        policy_url="http://gpu-1:8000",
        ppm_url="http://gpu-2:8000",
        policy_api_key=SecretStr("policy-secret"),
        remote_timeout_s=7.0,
    )
    options = engine_options(settings)
    assert options.backend == "openai"
    assert options.remote is not None
    assert (options.remote.policy.url, options.remote.policy.api_key) == ("http://gpu-1:8000", "policy-secret")
    assert (options.remote.ppm.url, options.remote.ppm.api_key) == ("http://gpu-2:8000", None)
    assert options.remote.limits.answer_s == 7.0


def test_without_addresses_there_is_no_remote_option() -> None:
    options = engine_options(Settings())
    assert options.backend == "auto"
    assert options.remote is None
