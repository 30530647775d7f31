"""The torch policy: `search.protocols.Policy` over a local checkpoint, batching every search's requests.

The computing is done on the runtime's thread; a coroutine here only waits. Use as an async context manager.
"""

import random
from collections.abc import Sequence
from typing import Self

from search.protocols import Candidate, Path, PathTooLong
from server.engines.checkpoint import Checkpoint
from server.engines.decode_loop import DecodeLimits, DecodeLoop, ProposeRequest, Sample
from server.engines.errors import EngineFailed
from server.engines.inbox import Reply
from server.engines.rendering import PathTokens
from server.engines.stats import EngineStats
from server.engines.torch_runtime import TorchRuntime


class TorchPolicy:
    """Proposes steps with a Qwen2-shaped model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        temperature: float,
        top_p: float,
        max_step_tokens: int = 256,
        max_batch: int = 256,
        runtime: TorchRuntime | None = None,
    ) -> None:
        """`temperature` 0 is greedy; `max_batch` bounds the sequences that run at once, of all requests together."""
        if temperature < 0 or not 0 < top_p <= 1 or max_step_tokens < 1 or max_batch < 1:
            raise ValueError(
                "expected temperature >= 0, 0 < top_p <= 1, max_step_tokens >= 1 and max_batch >= 1, "
                f"got {temperature}, {top_p}, {max_step_tokens} and {max_batch}"
            )
        self.model_id = checkpoint.model_id
        self.path_tokens = PathTokens(checkpoint.tokenizer)
        self._context_tokens = checkpoint.shape.context_tokens
        self._max_step_tokens = max_step_tokens
        self._runtime = runtime or TorchRuntime()
        limits = DecodeLimits(temperature=temperature, top_p=top_p, max_batch=max_batch)
        self._loop = DecodeLoop(checkpoint, self._runtime, limits)

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates; sample k draws from its own generator, seeded by (seed, k).

        Raises `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        if n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        segments = self.path_tokens.segments(path)
        length = sum(map(len, segments))
        room = self._context_tokens - length
        if room < 1:
            raise PathTooLong(f"the path has {length} tokens, the model's context {self._context_tokens}")
        request = ProposeRequest(
            segments=segments,
            path_length=length,
            max_tokens=min(room, self._max_step_tokens),
            # Seeded by a string: Random hashes it, so that neighbouring seeds and samples share nothing.
            samples=tuple(Sample(random.Random(f"{seed}/{k}")) for k in range(n)),
            reply=Reply(),
        )
        self._loop.inbox.put(request)
        self._runtime.compute.wake()
        return await request.reply.wait()

    @property
    def healthy(self) -> bool:
        """False once the loop has failed."""
        return not isinstance(self._loop.inbox.refusal, EngineFailed)

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
