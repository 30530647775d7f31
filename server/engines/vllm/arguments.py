"""Arguments for vLLM: the options and the environment of both engines. Imports no vLLM.

Unusual values were found with release 0.32; each constant gives its reason.
"""

import os
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.engines.model_folder import ModelFolder
from server.engines.protocols import EngineName
from server.engines.vllm.memory import GB, MemoryShare
from server.engines.vllm.watchdog import MARK

_CPU_BLOCK_TOKENS = 32
"""vLLM keeps prefixes by whole blocks, of 128 tokens on the CPU by default: most steps are shorter, and
nothing would ever be found again. 32 is the least that its CPU kernels like."""
_ONE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""0 keeps model and scheduler of an engine in one process, which is still not the server's."""
_CPU_BATCH_TOKENS = 4096
"""Path tokens run in one pass; never fewer than a whole path, which may not be cut on the CPU."""


_POLICY_SHARE = MemoryShare(gpu_fraction=0.55, cpu_bytes=GB)
"""The larger one: candidates of many paths are written at once, while a path is scored and forgotten. The published
code divides a card 0.5 to 0.48; here some is left for other uses."""
_PPM_SHARE = MemoryShare(gpu_fraction=0.35, cpu_bytes=GB // 2, dtype="float32")
"""In bfloat16 the bundled PPM's scores were off by up to 0.06, which reorders candidates and fails the self-check."""


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a request in vLLM's log and spans."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unique for each request."""
    trace_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ignored by a vLLM that records no spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """How two engines share a machine."""

    policy: MemoryShare = _POLICY_SHARE
    ppm: MemoryShare = _PPM_SHARE
    tensor_parallel: int = 1
    """Cards, or groups of cores, over which each model is spread."""
    max_batch: int = 256
    """Sequences in a batch: the last doubling of the batch that still paid."""
    label: Callable[[], Label] = field(default=Label, repr=False, compare=False)
    """Called in the task of each call."""

    def share(self, name: EngineName) -> MemoryShare:
        return self.policy if name is EngineName.POLICY else self.ppm


def engine_arguments(
    model: ModelFolder, name: EngineName, options: VllmOptions, *, on_cpu: bool
) -> Mapping[str, object]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`."""
    share = options.share(name)
    return {
        "model": str(model.path),
        "runner": "generate" if name is EngineName.POLICY else "pooling",
        "max_model_len": model.context_tokens,
        "max_num_seqs": options.max_batch,
        "dtype": share.dtype,
        "tensor_parallel_size": options.tensor_parallel,
        "enable_prefix_caching": True,
        # Defaults of the folder would change the sampling without our knowing.
        "generation_config": "vllm",
        # Our own logger counts; theirs would fight over one registry, and the second engine wipe out the first's.
        "disable_log_stats": True,
        "enable_logging_iteration_details": True,
        **(_cpu_arguments(model, share) if on_cpu else {"gpu_memory_utilization": share.gpu_fraction}),
    }


def _cpu_arguments(model: ModelFolder, share: MemoryShare) -> Mapping[str, object]:
    return {
        "kv_cache_memory_bytes": share.cpu_bytes,
        "block_size": _CPU_BLOCK_TOKENS,
        # A request with a seed whose path is cut into chunks kills the engine: "CPU Generator does not use offset".
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(_CPU_BATCH_TOKENS, model.context_tokens),
        # Compiling wants a C++ compiler, and more time than it wins for small models.
        "enforce_eager": True,
    }


def engine_variables(mark: str, options: VllmOptions, *, on_cpu: bool = False) -> Mapping[str, str | None]:
    """Environment variables that the engine's processes inherit; None removes a variable from them."""
    # On the CPU vLLM would put the model into a second process, a Worker, behind a queue whose readers spin for a
    # second after each message. Two engines on two cores then starve each other and the sandbox: 24 problems at once
    # took 5 times as long. With one GPU vLLM has no Worker anyway; several GPUs, or groups of cores, need Workers.
    one_process = {_ONE_PROCESS: os.environ.get(_ONE_PROCESS, "0")} if on_cpu else {}
    threads = max(1, len(os.sched_getaffinity(0)) // options.tensor_parallel)
    return {
        MARK: mark,
        "SPT_NOENV": "1",  # or the title that vLLM gives its processes would be written over the mark
        # A forked process would not carry the mark, and this one has threads.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # By itself vLLM pins every engine to the same one of two cores; unbound ones were as fast as any pinning tried.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # Threads that spin when they have nothing to do take the cores from the other engine and from the sandbox:
        # beside one busy process on two cores they wrote 300 to 1,000 tokens/s, sleeping ones 5,300 to 6,700.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "VLLM_CPU_KVCACHE_SPACE": None,  # would override both shares
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        **one_process,
    }


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Generator[None]:
    """Put `variables` into this process's environment, and take back every change made to it inside."""
    before = dict(os.environ)
    for name, value in variables.items():
        if value is not None:
            os.environ[name] = value
        elif name in os.environ:
            del os.environ[name]
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
