"""The torch policy: one engine over a local checkpoint that batches every search's requests, and its views.

The computing is done on the runtime's threads; a coroutine here only waits. With several lanes a request goes, whole,
to one of them; all of them know what any has read of a path.
"""

import random
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from search.protocols import Candidate, Path
from server.engines.policy_view import PolicyView, room_for_step
from server.engines.protocols import Sampling
from server.engines.rendering import PathTokens
from server.engines.stats import EngineStats, total
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.compute import ComputeThread
from server.engines.torch.decode_loop import DecodeLoop, PolicyWeights, ProposeRequest, Sample
from server.engines.torch.inbox import Reply
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.sampling import Rule
from server.engines.torch.thread_engine import fault_of

_IN_ONE_LANE = 32
"""Up to so many sequences stay together: two steps of half of them take as long side by side as one step of all, but
twice the processor time, which the PPM and the sandbox have use for."""


class TorchPolicyEngine:
    """`server.engines.protocols.PolicyEngine` with a Qwen2-shaped model."""

    def __init__(self, checkpoint: Checkpoint, *, max_batch: int = 256, runtime: TorchRuntime | None = None) -> None:
        """`max_batch` bounds the sequences that run at once, of all requests together."""
        if max_batch < 1:
            raise ValueError(f"expected max_batch >= 1, got {max_batch}")
        self.model_id = checkpoint.model_id
        self.path_tokens = PathTokens(checkpoint.tokenizer)
        self.context_tokens = checkpoint.shape.context_tokens
        runtime = runtime or TorchRuntime()
        self._weights = PolicyWeights(checkpoint, runtime)
        threads = runtime.policy_threads[:max_batch]
        self._lanes = [
            _Lane(thread, DecodeLoop(self._weights, max_batch=max_batch // len(threads))) for thread in threads
        ]
        # Requests may come from several event loops: the count and the choice that rests on it belong together.
        self._choosing = threading.Lock()

    def policy(self, sampling: Sampling) -> PolicyView:
        """See `server.engines.protocols.PolicyEngine`."""
        return PolicyView(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        return len(self.path_tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `PolicyView.propose`."""
        segments = self.path_tokens.segments(path)
        length = sum(map(len, segments))
        room = room_for_step(length, n, context_tokens=self.context_tokens, sampling=sampling)
        request = ProposeRequest(
            segments=segments,
            path_length=length,
            max_tokens=room,
            rule=Rule(sampling.temperature, sampling.top_p),
            # Seeded by a string: Random hashes it, so that neighbouring seeds and samples share nothing.
            samples=tuple(Sample(random.Random(f"{seed}/{k}")) for k in range(n)),
            reply=Reply(),
        )
        with self._lane_for(n) as lane:
            lane.loop.inbox.put(request)
            lane.thread.wake()
            return await request.reply.wait()

    @contextmanager
    def _lane_for(self, sequences: int) -> "Generator[_Lane]":
        with self._choosing:
            in_one = (lane for lane in self._lanes if lane.sequences + sequences <= _IN_ONE_LANE)
            lane = next(in_one, min(self._lanes, key=lambda lane: lane.sequences))
            lane.sequences += sequences
        try:
            yield lane
        finally:
            with self._choosing:
                lane.sequences -= sequences

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        faults = (fault_of(lane.loop.inbox) for lane in self._lanes)
        return next((fault for fault in faults if fault is not None), None)

    @property
    def stats(self) -> EngineStats:
        counters = (self._weights.counters, *(lane.loop.counters for lane in self._lanes))
        return total([counted.snapshot() for counted in counters])

    async def __aenter__(self) -> Self:
        for lane in self._lanes:
            lane.thread.attach(lane.loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse what is pending; requests from now on raise `EngineClosed`."""
        for lane in self._lanes:
            await lane.thread.detach(lane.loop)


@dataclass(slots=True)
class _Lane:
    """A batch and the thread that runs it."""

    thread: ComputeThread
    loop: DecodeLoop
    sequences: int = 0
    """Asked for and not answered."""
