"""Arguments for vLLM: the options of each engine, and changes of the environment."""

import os
from pathlib import Path as FilePath

import pytest

from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName
from server.engines.vllm.arguments import VllmOptions, engine_arguments, engine_variables, environment
from server.engines.vllm.memory import MemoryShare
from server.engines.vllm.watchdog import MARK

OPTIONS = VllmOptions(
    policy=MemoryShare(gpu_fraction=0.6, cpu_bytes=2_000_000_000),
    ppm=MemoryShare(gpu_fraction=0.3, cpu_bytes=1_000_000_000),
    tensor_parallel=2,
)


def test_on_gpus_each_engine_gets_its_fraction(policy_folder: FilePath, ppm_folder: FilePath) -> None:
    policy = engine_arguments(ModelFolder(policy_folder), EngineName.POLICY, OPTIONS, on_cpu=False)
    ppm = engine_arguments(ModelFolder(ppm_folder), EngineName.PPM, OPTIONS, on_cpu=False)
    assert (policy["gpu_memory_utilization"], ppm["gpu_memory_utilization"]) == (0.6, 0.3)
    assert (policy["runner"], ppm["runner"]) == ("generate", "pooling")
    assert policy["tensor_parallel_size"] == ppm["tensor_parallel_size"] == 2
    assert "enforce_eager" not in policy
    assert "block_size" not in policy


def test_on_a_cpu_an_engine_gets_its_bytes_and_short_blocks(policy_folder: FilePath, ppm_folder: FilePath) -> None:
    policy = engine_arguments(ModelFolder(policy_folder), EngineName.POLICY, OPTIONS, on_cpu=True)
    ppm = engine_arguments(ModelFolder(ppm_folder), EngineName.PPM, OPTIONS, on_cpu=True)
    assert (policy["kv_cache_memory_bytes"], ppm["kv_cache_memory_bytes"]) == (2_000_000_000, 1_000_000_000)
    for arguments in (policy, ppm):
        assert arguments["enable_prefix_caching"] is True
        assert arguments["block_size"] == 32
        assert arguments["enable_chunked_prefill"] is False


def test_a_path_is_never_cut_on_a_cpu(policy_folder: FilePath) -> None:
    arguments = engine_arguments(ModelFolder(policy_folder), EngineName.POLICY, OPTIONS, on_cpu=True)
    assert arguments["max_num_batched_tokens"] == 4096
    assert arguments["max_model_len"] == 1024


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    before = dict(os.environ)
    with environment(engine_variables("a-mark", OPTIONS)):
        assert os.environ[MARK] == "a-mark"
        assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
        assert os.environ["OMP_NUM_THREADS"] != "7"
        os.environ["LD_PRELOAD"] = "as vLLM does"
        del os.environ["OMP_NUM_THREADS"]
    assert dict(os.environ) == before


def test_the_operator_s_log_level_and_waiting_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    variables = engine_variables("a-mark", OPTIONS)
    assert (variables["VLLM_LOGGING_LEVEL"], variables["OMP_WAIT_POLICY"]) == ("DEBUG", "ACTIVE")


def test_on_a_cpu_an_engine_is_one_process_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    monkeypatch.delenv(name, raising=False)
    assert engine_variables("a-mark", OPTIONS, on_cpu=True)[name] == "0"
    assert name not in engine_variables("a-mark", OPTIONS, on_cpu=False)
    monkeypatch.setenv(name, "1")
    assert engine_variables("a-mark", OPTIONS, on_cpu=True)[name] == "1"
