# pyright: basic, reportMissingImports=false
"""Memory for vLLM: how policy and PPM divide it, and whether it is enough, checked before anything is started.

On GPUs each engine gets a fraction of every card, for weights, activations and keys and values together. On the CPU it
gets so many bytes for keys and values, beside its weights. Starts nothing but the one short process that asks
the GPUs.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from server.engines.errors import EngineError, MemoryRefused
from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName

GB = 10**9
_WORKING_BYTES = 1.5 * GB
"""Of each engine on the CPU besides weights and keys and values: a process with torch and vLLM loaded, and its
activations; 1.1 GB was measured with models of 3.5 million parameters."""
_BYTES_PER_NUMBER = {"bfloat16": 2, "float16": 2, "float32": 4}
_ASKING_S = 120.0
"""Importing torch and starting CUDA takes some 10 s on a quiet machine."""
_ASK_GPUS = (
    "import json, torch; print(json.dumps([torch.cuda.mem_get_info(i) for i in range(torch.cuda.device_count())]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShare:
    """What one engine gets."""

    gpu_fraction: float
    """Of each card, in (0, 1)."""
    cpu_bytes: int
    """For keys and values, where there is no GPU."""
    dtype: str = "auto"
    """Type to compute in, which decides what the weights take; `auto` is the folder's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMemory:
    """What a model needs in the type that it computes in."""

    weights_bytes: int
    path_bytes: int
    """Keys and values of the longest sequence."""
    context_tokens: int
    """Length of that."""


class GPUMemory(NamedTuple):
    """One card's bytes."""

    free: int
    total: int


def is_installed() -> bool:
    """Whether vLLM could be imported; imports nothing."""
    return importlib.util.find_spec("vllm") is not None


def suits_this_machine() -> bool:
    """Whether it is installed beside a GPU; without a GPU vLLM must be chosen by name."""
    import torch

    return is_installed() and torch.cuda.is_available()


def check_memory(
    folders: Mapping[EngineName, ModelFolder], shares: Mapping[EngineName, MemoryShare], *, tensor_parallel: int
) -> None:
    """Before anything is started. Raises `MemoryRefused` for shares that cannot be had."""
    if not is_installed():
        raise EngineError("the vllm engine was asked for, but vLLM is not installed in this environment")
    from vllm.platforms import current_platform

    models = {name: memory_of(folder, shares[name].dtype) for name, folder in folders.items()}
    if current_platform.is_cpu():
        check_cpu_memory(models, shares, available=available_cpu_bytes())
    else:
        check_gpu_memory(models, shares, ask_gpus(), tensor_parallel=tensor_parallel)


def memory_of(folder: ModelFolder, dtype: str) -> ModelMemory:
    """In that type; `auto` is the folder's. Raises `CheckpointError` if the folder lacks a needed value."""
    config = folder.config
    own = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    own_bytes, number_bytes = (_BYTES_PER_NUMBER.get(name, 2) for name in (own, own if dtype == "auto" else dtype))
    shared = "num_key_value_heads" if "num_key_value_heads" in config else "num_attention_heads"
    numbers_per_token = 2 * folder.number("num_hidden_layers") * folder.number(shared) * folder.head_size
    return ModelMemory(
        weights_bytes=sum(file.stat().st_size for file in folder.weight_files) * number_bytes // own_bytes,
        path_bytes=folder.context_tokens * numbers_per_token * number_bytes,
        context_tokens=folder.context_tokens,
    )


def check_cpu_memory(
    models: Mapping[EngineName, ModelMemory], shares: Mapping[EngineName, MemoryShare], *, available: int
) -> None:
    """Raise `MemoryRefused` where a share holds no whole path, or all of it together more than `available` bytes."""
    for name, model in models.items():
        if shares[name].cpu_bytes < model.path_bytes:
            raise MemoryRefused(
                f"{_gigabytes(shares[name].cpu_bytes)} for the {name}'s keys and values hold no path of its "
                f"{model.context_tokens} tokens, which takes {_gigabytes(model.path_bytes)}; "
                f"raise RSTAR_VLLM_{name.upper()}_KV_GB"
            )
    needed = sum(model.weights_bytes + shares[name].cpu_bytes + _WORKING_BYTES for name, model in models.items())
    if needed > available:
        raise MemoryRefused(
            f"policy and PPM on vLLM need {_gigabytes(needed)} of memory, {_gigabytes(available)} are free; "
            "lower RSTAR_VLLM_POLICY_KV_GB and RSTAR_VLLM_PPM_KV_GB, or serve smaller models"
        )


def check_gpu_memory(
    models: Mapping[EngineName, ModelMemory],
    shares: Mapping[EngineName, MemoryShare],
    gpus: Sequence[GPUMemory],
    *,
    tensor_parallel: int,
) -> None:
    """Raise `MemoryRefused` for too few cards, for weights larger than their share, or for shares that are not free."""
    if len(gpus) < tensor_parallel:
        raise MemoryRefused(f"RSTAR_VLLM_TENSOR_PARALLEL is {tensor_parallel}, but there are {len(gpus)} GPUs")
    for index, gpu in enumerate(gpus[:tensor_parallel]):
        for name, model in models.items():
            share = shares[name].gpu_fraction * gpu.total
            weights = model.weights_bytes / tensor_parallel
            if weights >= share:
                is_precise = name is EngineName.PPM and shares[name].dtype == "float32"
                half = ", or set RSTAR_VLLM_PPM_DTYPE=bfloat16" if is_precise else ""
                raise MemoryRefused(
                    f"the {name}'s weights take {_gigabytes(weights)} of GPU {index}, more than its share of "
                    f"{_gigabytes(share)}; raise RSTAR_VLLM_{name.upper()}_GPU_FRACTION or RSTAR_VLLM_TENSOR_PARALLEL"
                    f"{half}"
                )
        needed = sum(shares[name].gpu_fraction for name in models) * gpu.total
        if needed > gpu.free:
            raise MemoryRefused(
                f"policy and PPM are to take {_gigabytes(needed)} of GPU {index}, {_gigabytes(gpu.free)} are free; "
                "end what else uses it, or lower RSTAR_VLLM_POLICY_GPU_FRACTION and RSTAR_VLLM_PPM_GPU_FRACTION"
            )


def available_cpu_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may still take: the machine's, or its control group's where that is less."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = root / "sys/fs/cgroup"
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        return min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def ask_gpus() -> list[GPUMemory]:
    """The memory of every visible card; a process of its own asks, so that this one holds none of it."""
    command = [sys.executable, "-c", _ASK_GPUS]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_ASKING_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise MemoryRefused(f"the GPUs do not say how much memory they have: {error}") from error
    return [GPUMemory(*pair) for pair in json.loads(asked.stdout)]


def _gigabytes(count: float) -> str:
    return f"{count / GB:.3g} GB"
