# pyright: basic
"""The torch policy: continuous batching of every search's requests over a local checkpoint.

Every step of a loop drops what was abandoned, admits waiting samples as far as there is room, runs the batch once and
answers what is finished: nothing waits for the slowest sequence of another request. With several lanes a request goes,
whole, to one of them; all of them know what any has read of a path.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch

from server.engines.policy import Completion, CompletionRequest
from server.engines.protocols import EngineStats
from server.engines.torch.batch import GROUP_SIZE, DecodeBatch, Row
from server.engines.torch.cache import PathEncoder
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.loop import Lane, ThreadEngine
from server.engines.torch.model import Product, Qwen2
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.sampling import Generation, GenerationLoop, Sample

_ADMITTED_TOKENS = 4096
"""Path tokens admitted before the next decoding step, reused ones included: bounds how long running sequences stall."""


class _Group(NamedTuple):
    """Samples of one call that join the batch together."""

    call: Generation
    samples: Sequence[Sample]


class DecodeLoop(GenerationLoop):
    """A batch of the policy's. Requests may differ in their sampling: each row keeps its own."""

    def __init__(self, model: Qwen2, head: Product, encoder: PathEncoder, *, max_batch: int) -> None:
        """Model, head and encoder may be shared with other loops."""
        super().__init__()
        self._head = head
        self._encoder = encoder
        self._max_batch = max_batch
        self._batch = DecodeBatch(model)
        self._waiting: deque[_Group] = deque()
        self._running: dict[Row, tuple[Generation, Sample]] = {}

    def step(self) -> None:
        """See `EngineLoop`."""
        self._take_all()
        self._leave_abandoned()
        self._admit()
        # Reading paths takes a while: a call that was abandoned meanwhile shall not have another token written.
        self._leave_abandoned()
        self._count_levels()
        if self._running:
            self._decode()
        self._count_levels()

    def _count_levels(self) -> None:
        self.counters.running = len(self._running)
        self.counters.waiting = sum(len(group.samples) for group in self._waiting)

    def _take_all(self) -> None:
        """Cut new calls into groups."""
        size = min(GROUP_SIZE, self._max_batch)
        while (call := self.take()) is not None:
            for start in range(0, len(call.samples), size):
                self._waiting.append(_Group(call, call.samples[start : start + size]))

    def _leave_abandoned(self) -> None:
        if abandoned := self.drop_abandoned():
            self._waiting = deque(group for group in self._waiting if group.call not in abandoned)
            self._leave([row for row, (call, _) in self._running.items() if call in abandoned])

    def _admit(self) -> None:
        """Start waiting groups, oldest first: each sample's first token follows from the path alone."""
        admitted: list[_Group] = []
        room, tokens = self._max_batch - len(self._batch), _ADMITTED_TOKENS
        while self._waiting and len(self._waiting[0].samples) <= room:
            path_tokens = sum(map(len, self._waiting[0].call.request.segments))
            if admitted and path_tokens > tokens:
                break
            admitted.append(self._waiting.popleft())
            room -= len(admitted[-1].samples)
            tokens -= path_tokens
        if not admitted:
            return
        nodes = self._encoder.encode([group.call.request.segments for group in admitted])
        repeats = torch.tensor([len(group.samples) for group in admitted])
        hidden = torch.stack([node.hidden for node in nodes]).repeat_interleave(repeats, dim=0)
        self.write([sample for group in admitted for sample in group.samples], self._head(hidden))
        for node, group in zip(nodes, admitted, strict=True):
            unfinished = [sample for sample in group.samples if not sample.is_finished]
            if unfinished:
                rows = self._batch.join(node, [sample.token_ids[-1] for sample in unfinished])
                self._running |= {row: (group.call, sample) for row, sample in zip(rows, unfinished, strict=True)}
        self.answer_finished(group.call for group in admitted)

    def _decode(self) -> None:
        rows, hidden = self._batch.step()
        self.counters.forward_passes += 1
        self.counters.observe_batch(len(rows))
        samples = [self._running[row][1] for row in rows]
        self.write(samples, self._head(hidden))
        for row, sample in zip(rows, samples, strict=True):
            row.last_token = sample.token_ids[-1]
        finished = [row for row, sample in zip(rows, samples, strict=True) if sample.is_finished]
        calls = [self._running[row][0] for row in finished]
        self._leave(finished)
        self.answer_finished(calls)

    def _leave(self, rows: Sequence[Row]) -> None:
        self._batch.leave(rows)
        for row in rows:
            del self._running[row]


class TorchCompleter(ThreadEngine):
    """`server.engines.policy.Completer` with a Qwen2-shaped model."""

    def __init__(self, checkpoint: Checkpoint, *, max_batch: int = 256, runtime: TorchRuntime | None = None) -> None:
        """`max_batch` bounds the sequences that run at once, of all requests together."""
        if max_batch < 1:
            raise ValueError(f"expected max_batch >= 1, got {max_batch}")
        self.model_id = checkpoint.model_id
        self.context_tokens = checkpoint.shape.context_tokens
        runtime = runtime or TorchRuntime()
        counters = EngineStats()
        model = Qwen2(checkpoint.shape, checkpoint.weights, precision=runtime.precision)
        # Without the padding of the vocabulary, whose tokens have no text.
        head = model.product(checkpoint.head[: checkpoint.tokenizer.size])
        encoder = PathEncoder(model, cache_bytes=runtime.prefix_cache_bytes, counters=counters)
        threads = runtime.policy_threads[:max_batch]
        loops = [DecodeLoop(model, head, encoder, max_batch=max_batch // len(threads)) for _ in threads]
        super().__init__([Lane(thread, loop) for thread, loop in zip(threads, loops, strict=True)], counters)

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """Each sample has its own generator, seeded by (seed, its number). See `Completer.complete`."""
        return await self.ask(Generation(request=request), sequences=request.n)
