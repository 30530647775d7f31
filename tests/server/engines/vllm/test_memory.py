"""Memory for vLLM: refusals before anything starts, with the setting to change."""

import dataclasses
import sys
from pathlib import Path as FilePath

import pytest

from server.engines.errors import MemoryRefused
from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName
from server.engines.vllm.memory import (
    GB,
    GPUMemory,
    MemoryShare,
    ModelMemory,
    ask_gpus,
    available_cpu_bytes,
    check_cpu_memory,
    check_gpu_memory,
    memory_of,
)

SHARE = MemoryShare(gpu_fraction=0.4, cpu_bytes=GB)
SHARES = {EngineName.POLICY: SHARE, EngineName.PPM: SHARE}
CARD = GPUMemory(free=80 * GB, total=80 * GB)


MODEL = ModelMemory(weights_bytes=15 * GB, path_bytes=4096 * 57_344, context_tokens=4096)
"""Of the shape of a model of 7 billion parameters, in bfloat16."""
PRECISE = ModelMemory(weights_bytes=30 * GB, path_bytes=4096 * 114_688, context_tokens=4096)
"""The same in float32."""
MODELS = {EngineName.POLICY: MODEL, EngineName.PPM: MODEL}
PRECISE_PPM = {EngineName.POLICY: MODEL, EngineName.PPM: PRECISE}


@pytest.mark.parametrize(("dtype", "number_bytes"), [("auto", 2), ("bfloat16", 2), ("float32", 4)])
def test_memory_follows_from_folder_and_type(policy_folder: FilePath, dtype: str, number_bytes: int) -> None:
    memory = memory_of(ModelFolder(policy_folder), dtype)
    on_disk = (policy_folder / "model.safetensors").stat().st_size
    assert memory.weights_bytes == on_disk * number_bytes // 2
    # Keys and values of 2 layers with 2 heads of 32 numbers, for 1024 tokens.
    assert memory.path_bytes == 2 * 2 * 2 * 32 * 1024 * number_bytes
    assert memory.context_tokens == 1024


def test_what_fits_is_accepted() -> None:
    check_cpu_memory(MODELS, SHARES, available=36 * GB)
    check_gpu_memory(MODELS, SHARES, [CARD], tensor_parallel=1)


def test_keys_and_values_must_hold_one_whole_path() -> None:
    shares = {**SHARES, EngineName.PPM: MemoryShare(gpu_fraction=0.4, cpu_bytes=GB // 5)}
    with pytest.raises(
        MemoryRefused, match=r"0.2 GB for the ppm's .* 4096 tokens.* 0.235 GB; raise RSTAR_VLLM_PPM_KV_GB"
    ):
        check_cpu_memory(MODELS, shares, available=100 * GB)
    with pytest.raises(MemoryRefused, match=r"takes 0.47 GB"):
        check_cpu_memory(PRECISE_PPM, shares, available=100 * GB)


def test_everything_together_must_be_free() -> None:
    with pytest.raises(MemoryRefused, match=r"need 35 GB of memory, 34 GB are free; lower RSTAR_VLLM_POLICY_KV_GB"):
        check_cpu_memory(MODELS, SHARES, available=34 * GB)


def test_weights_take_twice_as_much_in_float32() -> None:
    with pytest.raises(MemoryRefused, match=r"need 50 GB of memory"):
        check_cpu_memory(PRECISE_PPM, SHARES, available=36 * GB)
    check_gpu_memory(PRECISE_PPM, SHARES, [CARD], tensor_parallel=1)


def test_weights_larger_than_their_share_are_refused() -> None:
    small = GPUMemory(free=32 * GB, total=32 * GB)
    with pytest.raises(
        MemoryRefused, match=r"policy's weights take 15 GB .* share of 12.8 GB; raise RSTAR_VLLM_POLICY"
    ):
        check_gpu_memory(MODELS, SHARES, [small], tensor_parallel=1)
    check_gpu_memory(MODELS, SHARES, [small, small], tensor_parallel=2)


def test_a_ppm_too_large_in_float32_may_be_halved() -> None:
    shares = {**SHARES, EngineName.PPM: dataclasses.replace(SHARE, gpu_fraction=0.35, dtype="float32")}
    with pytest.raises(MemoryRefused, match=r"ppm's weights take 30 GB .*, or set RSTAR_VLLM_PPM_DTYPE=bfloat16"):
        check_gpu_memory(PRECISE_PPM, shares, [CARD], tensor_parallel=1)


def test_shares_that_are_not_free_are_refused() -> None:
    used = GPUMemory(free=60 * GB, total=80 * GB)
    with pytest.raises(MemoryRefused, match=r"take 64 GB of GPU 1, 60 GB are free"):
        check_gpu_memory(MODELS, SHARES, [CARD, used], tensor_parallel=2)


def test_too_few_cards_are_refused() -> None:
    with pytest.raises(MemoryRefused, match="RSTAR_VLLM_TENSOR_PARALLEL is 2, but there are 1 GPUs"):
        check_gpu_memory(MODELS, SHARES, [CARD], tensor_parallel=2)


def test_a_control_group_limits_what_is_available(tmp_path: FilePath) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    assert available_cpu_bytes(tmp_path) == 8_192_000_000
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000000000\n")
    (group / "memory.max").write_text("max\n")
    assert available_cpu_bytes(tmp_path) == 8_192_000_000
    (group / "memory.max").write_text("3000000000\n")
    assert available_cpu_bytes(tmp_path) == 2_000_000_000


def test_this_machine_says_what_it_has() -> None:
    assert available_cpu_bytes() > 0


@pytest.mark.slow
def test_the_cards_of_this_machine_can_be_asked_for() -> None:
    assert all(0 <= card.free <= card.total for card in ask_gpus())


def test_cards_that_cannot_be_asked_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(MemoryRefused, match="do not say how much memory they have"):
        ask_gpus()
