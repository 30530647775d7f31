"""Batches: which examples each forward pass of a training holds, planned for all epochs before it starts.

A plan is a fixed list, so that a training that was stopped goes on with exactly the batches that are left. The examples
are only known by their sizes. Pure.

With a limit on tokens, examples are sorted by the length of their prompts within windows. Sorting by whole lengths
would pad less, but would separate the strategies of a family: from batches of one strategy each, a policy learns to be
sure of the strategy that came last.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Plan: TypeAlias = tuple[tuple[int, ...], ...]
"""Indices of examples, a tuple per forward pass."""

WINDOW = 4096
"""Examples that are sorted together: little padding, and still a fresh mixture every epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of one example: whatever must stay in one batch."""

    rows: int
    """Sequences."""
    longest: int
    """Tokens of the longest sequence."""
    prompt: int
    """Tokens before the first one to learn from."""
    count: int = 1
    """What it counts as under a limit on examples: pairs of one problem count one each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimit:
    """How large a batch may be; an example beyond the limit is a batch by itself. Exactly one is given."""

    tokens: int | None = None
    """Rows times the longest row."""
    examples: int | None = None


def planned_batches(sizes: Sequence[Size], limit: BatchLimit, *, epochs: float, seed: int) -> Plan:
    """All batches in order. Each whole epoch holds each example once; a last part of an epoch holds a part of them."""
    batches: list[tuple[int, ...]] = []
    for epoch in range(math.ceil(epochs)):
        rng = Random(f"{seed}/{epoch}")
        order = list(range(len(sizes)))
        rng.shuffle(order)
        found = list(_by_tokens(sizes, order, limit.tokens) if limit.tokens else _in_order(sizes, order, limit))
        rng.shuffle(found)
        part = min(1.0, epochs - epoch)
        batches += found[: max(1, round(part * len(found)))]
    return tuple(batches)


def _by_tokens(sizes: Sequence[Size], order: Sequence[int], tokens: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(order), WINDOW):
        window = sorted(order[start : start + WINDOW], key=lambda index: sizes[index].prompt)
        yield from _in_order(sizes, window, BatchLimit(tokens=tokens))


def _in_order(sizes: Sequence[Size], order: Sequence[int], limit: BatchLimit) -> Iterator[tuple[int, ...]]:
    batch: list[int] = []
    rows = longest = count = 0
    for index in order:
        size = sizes[index]
        rows, longest, count = rows + size.rows, max(longest, size.longest), count + size.count
        too_large = rows * longest > limit.tokens if limit.tokens else count > (limit.examples or 1)
        if batch and too_large:
            yield tuple(batch)
            batch, rows, longest, count = [], size.rows, size.longest, size.count
        batch.append(index)
    if batch:
        yield tuple(batch)
