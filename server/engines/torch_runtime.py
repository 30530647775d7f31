"""The torch runtime: what the policy and the PPM of one process share, thread, precision and memory."""

from dataclasses import dataclass, field
from enum import StrEnum

import torch

from server.engines.checkpoint import Checkpoint
from server.engines.compute import ComputeThread
from server.engines.errors import EngineError, EngineFailed
from server.engines.path_encoder import PathEncoder
from server.engines.qwen2 import Qwen2
from server.engines.stats import EngineCounters

_BYTES_PER_MB = 1 << 20


class Precision(StrEnum):
    """The type of the weight matrices while computing; everything else is float32 always."""

    FLOAT32 = "float32"
    """The default. A matrix product rounds a little differently with the number of rows, so a sample may still turn on
    what else is in the batch: 2 of 384 sequences of a random model did. A lone search on
    a fresh engine repeats itself."""
    BFLOAT16 = "bfloat16"
    """A third faster at 64 sequences and more where the processor has the instructions, but its coarser rounding turned
    163 of those 384 sequences. For making training data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRuntime:
    """Pass the same one to both engines."""

    compute: ComputeThread = field(default_factory=ComputeThread)
    precision: Precision = Precision.FLOAT32
    prefix_cache_mb: int = 256
    """Per engine; reuse takes a quarter off the computing of a search. At 4 kB a token (4 layers, 2 key-value heads)
    this holds 65,000 tokens: some 1,500 steps of running searches."""

    def model(self, checkpoint: Checkpoint) -> Qwen2:
        return Qwen2(checkpoint.shape, checkpoint.weights, compute_dtype=getattr(torch, self.precision.value))

    def encoder(self, model: Qwen2, counters: EngineCounters) -> PathEncoder:
        return PathEncoder(model, cache_bytes=self.prefix_cache_mb * _BYTES_PER_MB, counters=counters)


def fault_of(refusal: EngineError | None) -> str | None:
    """What an engine that refuses so has to say for itself. Being closed is no fault."""
    if not isinstance(refusal, EngineFailed):
        return None
    return f"{refusal}; see the log, and restart the server"
