"""Memory for vLLM: what is refused before anything starts, with the setting to turn."""

import dataclasses
import sys
from collections.abc import Mapping
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


@pytest.fixture
def models(policy_folder: FilePath) -> Mapping[EngineName, ModelMemory]:
    """Of the shape of a model of 7 billion parameters."""
    model = dataclasses.replace(
        memory_of(ModelFolder(policy_folder)),
        context_tokens=4096,
        key_values_per_token=28_672,
        bytes_on_disk=15 * GB,
    )
    return {EngineName.POLICY: model, EngineName.PPM: model}


def test_what_fits_is_accepted(models: Mapping[EngineName, ModelMemory]) -> None:
    check_cpu_memory(models, SHARES, available=36 * GB)
    check_gpu_memory(models, SHARES, [CARD], tensor_parallel=1)


def test_keys_and_values_must_hold_one_whole_path(models: Mapping[EngineName, ModelMemory]) -> None:
    shares = {**SHARES, EngineName.PPM: MemoryShare(gpu_fraction=0.4, cpu_bytes=GB // 5)}
    with pytest.raises(
        MemoryRefused, match=r"0.2 GB for the ppm's .* 4096 tokens.* 0.235 GB; raise RSTAR_VLLM_PPM_KV_GB"
    ):
        check_cpu_memory(models, shares, available=100 * GB)
    precise = {**SHARES, EngineName.PPM: dataclasses.replace(shares[EngineName.PPM], dtype="float32")}
    with pytest.raises(MemoryRefused, match=r"takes 0.47 GB"):
        check_cpu_memory(models, precise, available=100 * GB)


def test_everything_together_must_be_free(models: Mapping[EngineName, ModelMemory]) -> None:
    with pytest.raises(MemoryRefused, match=r"need 35 GB of memory, 34 GB are free; lower RSTAR_VLLM_POLICY_KV_GB"):
        check_cpu_memory(models, SHARES, available=34 * GB)


def test_weights_take_twice_as_much_in_float32(models: Mapping[EngineName, ModelMemory]) -> None:
    precise = {**SHARES, EngineName.PPM: dataclasses.replace(SHARE, dtype="float32")}
    with pytest.raises(MemoryRefused, match=r"need 50 GB of memory"):
        check_cpu_memory(models, precise, available=36 * GB)
    check_gpu_memory(models, precise, [CARD], tensor_parallel=1)


def test_weights_larger_than_their_share_are_refused(models: Mapping[EngineName, ModelMemory]) -> None:
    small = GPUMemory(free=32 * GB, total=32 * GB)
    with pytest.raises(
        MemoryRefused, match=r"policy's weights take 15 GB .* share of 12.8 GB; raise RSTAR_VLLM_POLICY"
    ):
        check_gpu_memory(models, SHARES, [small], tensor_parallel=1)
    check_gpu_memory(models, SHARES, [small, small], tensor_parallel=2)


def test_shares_that_are_not_free_are_refused(models: Mapping[EngineName, ModelMemory]) -> None:
    used = GPUMemory(free=60 * GB, total=80 * GB)
    with pytest.raises(MemoryRefused, match=r"take 64 GB of GPU 1, 60 GB are free"):
        check_gpu_memory(models, SHARES, [CARD, used], tensor_parallel=2)


def test_too_few_cards_are_refused(models: Mapping[EngineName, ModelMemory]) -> None:
    with pytest.raises(MemoryRefused, match="RSTAR_VLLM_TENSOR_PARALLEL is 2, but there are 1 GPUs"):
        check_gpu_memory(models, SHARES, [CARD], tensor_parallel=2)


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
