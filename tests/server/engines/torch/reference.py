# pyright: basic
"""A model of ours and transformers' own, read from one folder."""

import random
from pathlib import Path as FilePath

import torch
from torch import Tensor

from server.engines.protocols import EngineStats
from server.engines.torch.cache import PathEncoder
from server.engines.torch.checkpoint import load_policy
from server.engines.torch.model import Precision, Qwen2


class Reference:
    """Both models of one folder."""

    def __init__(self, folder: FilePath) -> None:
        import transformers

        checkpoint = load_policy(folder)
        self.model = Qwen2(checkpoint.shape, checkpoint.weights, precision=Precision.FLOAT32)
        self.head = self.model.product(checkpoint.head)
        self.counters = EngineStats()
        self.encoder = PathEncoder(self.model, cache_bytes=1 << 20, counters=self.counters)
        self._reference = transformers.Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden.view(-1, hidden.shape[-1])).view(*hidden.shape[:-1], -1)

    @torch.inference_mode()
    def expected(self, ids: tuple[int, ...]) -> Tensor:
        return self._reference(torch.tensor([ids])).logits[0, -1]


def tokens(count: int, *, seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(290) for _ in range(count))
