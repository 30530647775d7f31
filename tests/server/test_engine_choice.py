# pyright: basic
"""The choice of engine: what the settings lead to."""

import importlib.util

import pytest
import torch

from server.bundle.folders import ModelFolders
from server.engine_choice import make_engines, vllm_options
from server.engines.errors import EngineError, MemoryRefused
from server.engines.torch_policy import TorchPolicyEngine
from server.settings import Settings

pytestmark = pytest.mark.slow

without_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_without_a_gpu_auto_is_torch(model_folders: ModelFolders, engine) -> None:
    if engine == "auto" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert isinstance(make_engines(model_folders, Settings(engine=engine)).policy, TorchPolicyEngine)


@without_vllm
def test_vllm_that_is_not_installed_is_one_reason(model_folders: ModelFolders) -> None:
    with pytest.raises(EngineError, match="vLLM is not installed"):
        make_engines(model_folders, Settings(engine="vllm"))


def test_the_shares_of_memory_are_those_of_the_settings() -> None:
    settings = Settings(
        vllm_policy_gpu_fraction=0.6,
        vllm_ppm_gpu_fraction=0.2,
        vllm_policy_kv_gb=2.5,
        vllm_ppm_kv_gb=0.25,
        vllm_tensor_parallel=2,
    )
    options = vllm_options(settings)
    assert (options.policy.gpu_fraction, options.policy.cpu_bytes) == (0.6, 2_500_000_000)
    assert (options.ppm.gpu_fraction, options.ppm.cpu_bytes) == (0.2, 250_000_000)
    assert options.tensor_parallel == 2


@pytest.mark.vllm
def test_a_share_that_holds_no_path_is_refused_before_anything_starts(model_folders: ModelFolders) -> None:
    with pytest.raises(MemoryRefused, match="raise RSTAR_VLLM_PPM_KV_GB"):
        make_engines(model_folders, Settings(engine="vllm", vllm_ppm_kv_gb=1e-6))
