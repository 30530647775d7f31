# pyright: basic
"""The torch policy: continuous batching of every search's requests over a local checkpoint.

Every step of a loop drops abandoned requests, admits waiting samples while there is room, runs the batch once and
answers finished requests. So no request waits for the slowest sequence of another. With several lanes, all samples of a
request run in one lane; a path that one lane has read is cached for all.

The samples of one request stand in a *group* that holds the request's path once; each sequence adds only its own
tokens. A step's attention is computed in two parts, over the path and over the own tokens, and merged by their
sums of weights. That reads the path's keys once per group instead of once per sample, which is where a large batch
would spend its time. Groups and rows stay dense: the last one moves into a gap.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from server.engines.policy import Completion, CompletionRequest
from server.engines.protocols import EngineStats
from server.engines.torch.cache import PathEncoder, PrefixNode
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.loop import Lane, ThreadEngine
from server.engines.torch.model import Product, Qwen2, Qwen2Shape
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.sampling import Generation, GenerationLoop, Sample

GROUP_SIZE = 8
"""Samples per group at most. Reading the path an eighth as often takes it off the profile, and a step over groups of
uneven sizes computes each as if it were as large as the largest."""
_LENGTH_STEP = 64
"""Slots grow in length by whole multiples of this, to grow seldom."""
_ADMITTED_TOKENS = 4096
"""Path tokens admitted before the next decoding step, reused ones included: bounds how long running sequences stall."""


@dataclass(slots=True, eq=False)
class BatchGroup:
    """Samples that continue the same path."""

    slot: int
    prefix_length: int
    running: int


@dataclass(slots=True, eq=False)
class BatchRow:
    """One running sequence, as the batch sees it."""

    group: BatchGroup
    rank: int
    """Place within the group."""
    last_token: int
    """Sampled and not yet run through the model."""
    length: int = 0
    """Own tokens run so far."""


class DecodeBatch:
    """Keys and values of the running sequences, one decoding step at a time. Never samples, never decides to stop."""

    def __init__(self, model: Qwen2) -> None:
        self._model = model
        self._groups: list[BatchGroup] = []
        self._rows: list[BatchRow] = []
        self._prefixes = _Slots(model.shape)
        self._suffixes = _Slots(model.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, node: PrefixNode, first_tokens: Sequence[int]) -> list[BatchRow]:
        """Start a group below `node`: one row for each first token, in order."""
        assert 0 < len(first_tokens) <= GROUP_SIZE
        group = BatchGroup(slot=len(self._groups), prefix_length=node.length, running=len(first_tokens))
        self._prefixes.reserve(slots=len(self._groups) + 1, length=node.length)
        end = 0
        for part in node.chain():
            start, end = end, end + len(part.segment)
            self._prefixes.store[:, :, group.slot, :, start:end] = part.key_values
        rows = [BatchRow(group=group, rank=rank, last_token=token) for rank, token in enumerate(first_tokens)]
        self._groups.append(group)
        self._rows.extend(rows)
        return rows

    def leave(self, gone: Sequence[BatchRow]) -> None:
        """Drop finished rows, and the groups they empty."""
        for index in sorted((self._rows.index(row) for row in gone), reverse=True):
            row = self._rows[index]
            last = self._rows.pop()
            if last is not row:
                self._suffixes.move(len(self._rows), index, length=last.length)
                self._rows[index] = last
            row.group.running -= 1
            if not row.group.running:
                self._drop(row.group)

    def step(self) -> tuple[list[BatchRow], Tensor]:
        """Run every row's last token; the rows and the hidden state of each."""
        rows = self._rows
        self._suffixes.reserve(slots=len(rows), length=1 + max(row.length for row in rows))
        positions = torch.tensor([row.group.prefix_length + row.length for row in rows])
        attention = _GroupedAttention(self._prefixes.store, self._suffixes.store, self._groups, rows)
        hidden = self._model.forward(torch.tensor([row.last_token for row in rows]), positions, attention)
        for row in rows:
            row.length += 1
        return list(rows), hidden

    def _drop(self, group: BatchGroup) -> None:
        last = self._groups.pop()
        if last is not group:
            self._prefixes.move(last.slot, group.slot, length=last.prefix_length)
            last.slot = group.slot
            self._groups[group.slot] = last


class _Slots:
    """Keys and values as [layer, key or value, slot, head, token, dimension], growing as needed."""

    def __init__(self, shape: Qwen2Shape) -> None:
        self.store = torch.zeros(shape.layers, 2, 0, shape.key_value_heads, 0, shape.head_size)

    def reserve(self, *, slots: int, length: int) -> None:
        layers, pair, had_slots, heads, had_length, size = self.store.shape
        if slots <= had_slots and length <= had_length:
            return
        more_slots = max(had_slots, 1 << (slots - 1).bit_length())
        more_length = max(had_length, math.ceil(length / _LENGTH_STEP) * _LENGTH_STEP)
        # Zeros, not empty: masked values are still multiplied, and must be finite.
        grown = torch.zeros(layers, pair, more_slots, heads, more_length, size)
        grown[:, :, :had_slots, :, :had_length] = self.store
        self.store = grown

    def move(self, source: int, target: int, *, length: int) -> None:
        self.store[:, :, target, :, :length] = self.store[:, :, source, :, :length]


class _GroupedAttention:
    """Each row looks at its group's path and at its own tokens."""

    def __init__(
        self, prefixes: Tensor, suffixes: Tensor, groups: Sequence[BatchGroup], rows: Sequence[BatchRow]
    ) -> None:
        self._rows = torch.arange(len(rows))
        self._lengths = torch.tensor([row.length for row in rows])
        self._slots = torch.tensor([row.group.slot for row in rows])
        self._ranks = torch.tensor([row.rank for row in rows])
        self._ranks_per_group = 1 + max(row.rank for row in rows)
        prefix_lengths = torch.tensor([group.prefix_length for group in groups])
        self._prefixes = prefixes[:, :, : len(groups), :, : int(prefix_lengths.max())]
        self._suffixes = suffixes[:, :, : len(rows), :, : 1 + int(self._lengths.max())]
        self._prefix_bias = _length_bias(prefix_lengths)
        self._suffix_bias = _length_bias(self._lengths + 1)

    def __call__(self, layer: int, queries_N_K_Q_D: Tensor, keys_N_K_D: Tensor, values_N_K_D: Tensor) -> Tensor:
        self._suffixes[layer, 0][self._rows, :, self._lengths] = keys_N_K_D
        self._suffixes[layer, 1][self._rows, :, self._lengths] = values_N_K_D
        own, own_mass = _attend(queries_N_K_Q_D, self._suffixes[layer], self._suffix_bias)
        shared, shared_mass = self._over_prefixes(layer, queries_N_K_Q_D)
        return torch.lerp(shared, own, torch.sigmoid(own_mass - shared_mass).unsqueeze(-1))

    def _over_prefixes(self, layer: int, queries_N_K_Q_D: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a group are queries of one slot."""
        _, heads, per_key, size = queries_N_K_Q_D.shape
        groups, ranks = self._prefixes.shape[2], self._ranks_per_group
        # Zeros, not empty: places without a row are computed too, and values that are not finite take longer.
        grid = queries_N_K_Q_D.new_zeros(groups, heads, ranks, per_key, size)
        grid[self._slots, :, self._ranks] = queries_N_K_Q_D
        mixed, mass = _attend(grid.flatten(2, 3), self._prefixes[layer], self._prefix_bias)
        mixed, mass = mixed.view(grid.shape), mass.view(grid.shape[:-1])
        return mixed[self._slots, :, self._ranks], mass[self._slots, :, self._ranks]


def _attend(queries: Tensor, store: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of [slot, head, query, dimension] over one layer's slots, and the logarithm of its weights' sum."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001  # no public name gives the sum
    return attend(queries, store[0], store[1], attn_mask=bias)


def _length_bias(lengths: Tensor) -> Tensor:
    """[slot, 1, 1, token]: 0 below the slot's length, minus infinity from there on."""
    longest = int(lengths.max())
    hidden = torch.arange(longest) >= lengths.unsqueeze(1)
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None, None]


class _WaitingSamples(NamedTuple):
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
        self._waiting: deque[_WaitingSamples] = deque()
        self._running: dict[BatchRow, tuple[Generation, Sample]] = {}

    def step(self) -> None:
        """See `EngineLoop`."""
        self._take_all()
        self._leave_abandoned()
        self._admit()
        # Reading paths takes a while: a call that was abandoned meanwhile must not get another token.
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
                self._waiting.append(_WaitingSamples(call, call.samples[start : start + size]))

    def _leave_abandoned(self) -> None:
        if abandoned := self.drop_abandoned():
            self._waiting = deque(group for group in self._waiting if group.call not in abandoned)
            self._leave([row for row, (call, _) in self._running.items() if call in abandoned])

    def _admit(self) -> None:
        """Start waiting groups, oldest first: each sample's first token follows from the path alone."""
        admitted: list[_WaitingSamples] = []
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

    def _leave(self, rows: Sequence[BatchRow]) -> None:
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
