# pyright: basic, reportMissingImports=false
"""vLLM engines: policy and PPM of one process on the same cards or cores, after a look at the memory."""

import importlib.util
import threading

from server.bundle.folders import ModelFolders
from server.engines.errors import EngineError
from server.engines.model_folder import ModelFolder, read_policy_folder, read_ppm_folder
from server.engines.protocols import EngineName, Engines
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import ask_gpus, available_cpu_bytes, check_cpu_memory, check_gpu_memory, memory_of
from server.engines.vllm.policy import VllmPolicyEngine
from server.engines.vllm.ppm import VllmScorer


def vllm_engines(folders: ModelFolders, options: VllmOptions) -> Engines:
    """Engines that are ready to be entered. Blocks for seconds.

    Raises `CheckpointError` for folders that cannot be served, `MemoryRefused` for shares that cannot be had.
    """
    policy, ppm = read_policy_folder(folders.policy), read_ppm_folder(folders.ppm)
    check_memory(policy, ppm, options)
    turn = threading.Lock()
    return Engines(policy=VllmPolicyEngine(policy, options, turn=turn), ppm=VllmScorer(ppm, options, turn=turn))


def check_memory(policy: ModelFolder, ppm: ModelFolder, options: VllmOptions) -> None:
    """Before anything is started. Raises `MemoryRefused` for shares that cannot be had."""
    if not is_installed():
        raise EngineError("the vllm engine was asked for, but vLLM is not installed in this environment")
    models = {EngineName.POLICY: memory_of(policy), EngineName.PPM: memory_of(ppm)}
    shares = {name: options.share(name) for name in models}
    if runs_on_cpu():
        check_cpu_memory(models, shares, available=available_cpu_bytes())
    else:
        check_gpu_memory(models, shares, ask_gpus(), tensor_parallel=options.tensor_parallel)


def is_installed() -> bool:
    """Whether vLLM could be imported; imports nothing."""
    return importlib.util.find_spec("vllm") is not None


def suits_this_machine() -> bool:
    """Whether it is installed beside a GPU; without one vLLM has to be asked for."""
    import torch

    return is_installed() and torch.cuda.is_available()


def runs_on_cpu() -> bool:
    """Whether the installed vLLM is the one for CPUs."""
    from vllm.platforms import current_platform

    return current_platform.is_cpu()
