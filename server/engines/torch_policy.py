"""The torch policy: one engine over a local checkpoint that batches every search's requests, and its views.

The computing is done on the runtime's thread; a coroutine here only waits.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from search.protocols import Candidate, Path, PathTooLong
from server.engines.checkpoint import Checkpoint
from server.engines.decode_loop import DecodeLoop, ProposeRequest, Sample
from server.engines.inbox import Reply
from server.engines.protocols import Sampling
from server.engines.rendering import PathTokens
from server.engines.sampling import Rule
from server.engines.stats import EngineStats
from server.engines.torch_runtime import TorchRuntime, fault_of


class TorchPolicyEngine:
    """`server.engines.protocols.PolicyEngine` with a Qwen2-shaped model."""

    def __init__(self, checkpoint: Checkpoint, *, max_batch: int = 256, runtime: TorchRuntime | None = None) -> None:
        """`max_batch` bounds the sequences that run at once, of all requests together."""
        if max_batch < 1:
            raise ValueError(f"expected max_batch >= 1, got {max_batch}")
        self.model_id = checkpoint.model_id
        self.path_tokens = PathTokens(checkpoint.tokenizer)
        self.context_tokens = checkpoint.shape.context_tokens
        self._runtime = runtime or TorchRuntime()
        self._loop = DecodeLoop(checkpoint, self._runtime, max_batch=max_batch)

    def policy(self, sampling: Sampling) -> "TorchPolicy":
        """See `server.engines.protocols.PolicyEngine`."""
        return TorchPolicy(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        return len(self.path_tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `TorchPolicy.propose`."""
        if n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        segments = self.path_tokens.segments(path)
        length = sum(map(len, segments))
        room = self.context_tokens - length
        if room < 1:
            raise PathTooLong(f"the path has {length} tokens, the model's context {self.context_tokens}")
        request = ProposeRequest(
            segments=segments,
            path_length=length,
            max_tokens=min(room, sampling.max_step_tokens),
            rule=Rule(sampling.temperature, sampling.top_p),
            # Seeded by a string: Random hashes it, so that neighbouring seeds and samples share nothing.
            samples=tuple(Sample(random.Random(f"{seed}/{k}")) for k in range(n)),
            reply=Reply(),
        )
        self._loop.inbox.put(request)
        self._runtime.compute.wake()
        return await request.reply.wait()

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return fault_of(self._loop.inbox.refusal)

    @property
    def stats(self) -> EngineStats:
        return self._loop.counters.snapshot()

    async def __aenter__(self) -> Self:
        self._runtime.compute.attach(self._loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse what is pending; requests from now on raise `EngineClosed`."""
        await self._runtime.compute.detach(self._loop)


@dataclass(frozen=True, slots=True)
class TorchPolicy:
    """A view of the engine that draws in one way."""

    engine: TorchPolicyEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates; sample k draws from its own generator, seeded by (seed, k).

        Raises `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        return await self.engine.propose(path, n, seed=seed, sampling=self.sampling)
