# pyright: basic
"""The prefix cache: keys and values of path segments, in a tree that mirrors the search trees, and its encoder.

A node holds one segment (the prompt, or a step with its output) and reaches the rest through its parents, so that
siblings share everything above them. The `PathEncoder` runs the model over what the cache does not hold: first the
missing trunks (all segments but the last), then the last segments, siblings side by side under one mask. Serves policy
and PPM alike, and never looks at what a token means.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from server.engines.protocols import EngineStats
from server.engines.rendering import PathSegments, TokenSegment
from server.engines.torch.loop import take_fitting
from server.engines.torch.model import Qwen2

_PASS_TOKENS = 1024
"""Rows per forward pass: matrix products are at full speed from 256 rows on, and a pass fits the cache."""


@dataclass(slots=True, eq=False)
class PrefixNode:
    """A segment at its place in the tree."""

    segment: TokenSegment
    parent: "PrefixNode | None"
    key_values: Tensor
    """[layer, key or value, head, token of the segment, dimension]"""
    hidden: Tensor
    """The final hidden state of the segment's last token."""
    length: int
    """Tokens from the root to the end of this segment."""
    children: "dict[TokenSegment, PrefixNode]" = field(default_factory=dict["TokenSegment", "PrefixNode"])

    def chain(self) -> list["PrefixNode"]:
        """The nodes from the first segment to this one."""
        nodes: list[PrefixNode] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def joined_key_values(self) -> Tensor:
        """Keys and values of the whole prefix."""
        return torch.cat([self.key_values[:, :, :, :0], *(node.key_values for node in self.chain())], dim=3)

    @property
    def nbytes(self) -> int:
        return self.key_values.nbytes + self.hidden.nbytes


class PrefixCache:
    """Segment nodes under a bound in bytes. Never runs a model.

    The least recently used nodes are evicted first. Touching a node touches its ancestors after it; the oldest node is
    therefore always a leaf. Not thread-safe: it belongs to one encoder. Any thread may read nodes that were handed out,
    since only their children ever change.
    """

    def __init__(self, *, max_bytes: int, empty_key_values: Tensor) -> None:
        self._max_bytes = max_bytes
        self._root = PrefixNode((), None, empty_key_values, empty_key_values.new_empty(0), 0)
        self._by_age: OrderedDict[PrefixNode, None] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._by_age)

    def deepest(self, segments: Sequence[TokenSegment]) -> tuple[PrefixNode, int]:
        """The longest held prefix of `segments`, and how many of them it covers."""
        node = self._root
        for depth, segment in enumerate(segments):
            child = node.children.get(segment)
            if child is None:
                self._touch(node)
                return node, depth
            node = child
        self._touch(node)
        return node, len(segments)

    def add(self, parent: PrefixNode, segment: TokenSegment, *, key_values: Tensor, hidden: Tensor) -> PrefixNode:
        """The node of `segment` below `parent`: the one already there, or a new one."""
        node = parent.children.get(segment)
        if node is None:
            node = PrefixNode(segment, parent, key_values, hidden, parent.length + len(segment))
            parent.children[segment] = node
            self._bytes += node.nbytes
        self._touch(node)
        return node

    def trim(self) -> None:
        """Evict the least recently used nodes until the bound holds. Code that holds a node can go on using it."""
        while self._bytes > self._max_bytes and self._by_age:
            node, _ = self._by_age.popitem(last=False)
            self._bytes -= node.nbytes
            assert node.parent is not None, "the root is never held"
            assert not node.children, "the oldest node must be a leaf"
            del node.parent.children[node.segment]

    def _touch(self, node: PrefixNode) -> None:
        while node.parent is not None:
            self._by_age[node] = None
            self._by_age.move_to_end(node)
            node = node.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """Segments to run below a held node."""

    parent: PrefixNode
    segments: PathSegments

    @property
    def length(self) -> int:
        return sum(map(len, self.segments))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Branches of one parent, in adjacent rows of a pass."""

    rows: slice
    past: Tensor
    """Keys and values of the parent's prefix."""
    bias: Tensor
    """[row, past and family rows]: 0 where a row may look, minus infinity elsewhere."""


class _TreeAttention:
    """Each row looks at its parent's prefix and at its own branch up to itself."""

    def __init__(self, families: Sequence[_Family], key_values: Tensor) -> None:
        self._families = families
        self.key_values = key_values
        """[layer, key or value, head, row, dimension], filled layer by layer."""

    def __call__(self, layer: int, queries_N_K_Q_D: Tensor, keys_N_K_D: Tensor, values_N_K_D: Tensor) -> Tensor:
        self.key_values[layer, 0] = keys_N_K_D.transpose(0, 1)
        self.key_values[layer, 1] = values_N_K_D.transpose(0, 1)
        queries_K_Q_N_D = queries_N_K_Q_D.permute(1, 2, 0, 3)
        mixed = torch.empty_like(queries_N_K_Q_D, memory_format=torch.contiguous_format)
        for family in self._families:
            keys, values = torch.cat([family.past[layer], self.key_values[layer, :, :, family.rows]], dim=2)
            queries = queries_K_Q_N_D[:, :, family.rows]
            per_query = (-1, queries.shape[1], -1, -1)
            context = F.scaled_dot_product_attention(
                queries, keys.unsqueeze(1).expand(per_query), values.unsqueeze(1).expand(per_query), family.bias
            )
            mixed[family.rows] = context.permute(2, 0, 1, 3)
        return mixed


class PathEncoder:
    """Gives paths their nodes in the prefix cache. Several threads may call it; they take turns."""

    def __init__(self, model: Qwen2, *, cache_bytes: int, counters: EngineStats) -> None:
        shape = model.shape
        self._model = model
        self._counters = counters
        # A turn spans lookup, run and second lookup: nothing may be evicted in between.
        self._turn = threading.Lock()
        self._empty = torch.zeros(shape.layers, 2, shape.key_value_heads, 0, shape.head_size)
        self._cache = PrefixCache(max_bytes=cache_bytes, empty_key_values=self._empty)

    def encode(self, paths: Sequence[PathSegments]) -> list[PrefixNode]:
        """The node of each path, in order."""
        with self._turn:
            before = self._counters.tokens_encoded
            self._run(self._missing([path[:-1] for path in paths]))
            self._run(self._missing(paths))
            nodes = [self._cache.deepest(path)[0] for path in paths]
            encoded = self._counters.tokens_encoded - before
            self._counters.tokens_reused += sum(node.length for node in nodes) - encoded
            self._cache.trim()
            return nodes

    def _missing(self, paths: Sequence[PathSegments]) -> deque[_Branch]:
        """The segments that are not cached yet, each branch once, siblings adjacent."""
        branches: dict[PrefixNode, dict[PathSegments, _Branch]] = {}
        for path in paths:
            parent, depth = self._cache.deepest(path)
            if depth < len(path):
                branches.setdefault(parent, {})[path[depth:]] = _Branch(parent=parent, segments=path[depth:])
        return deque(branch for siblings in branches.values() for branch in siblings.values())

    def _run(self, branches: deque[_Branch]) -> None:
        while branches:
            self._run_pass(take_fitting(branches, lambda branch: branch.length, most=_PASS_TOKENS))

    def _run_pass(self, branches: list[_Branch]) -> None:
        ids = [token for branch in branches for segment in branch.segments for token in segment]
        positions = [p for b in branches for p in range(b.parent.length, b.parent.length + b.length)]
        key_values = self._empty.new_empty(*self._empty.shape[:3], len(ids), self._empty.shape[4])
        attention = _TreeAttention(_families(branches), key_values)
        hidden = self._model.forward(torch.tensor(ids), torch.tensor(positions), attention)
        self._counters.forward_passes += 1
        self._counters.tokens_encoded += len(ids)
        end = 0
        for branch in branches:
            node = branch.parent
            for segment in branch.segments:
                start, end = end, end + len(segment)
                kept = key_values[:, :, :, start:end].clone()
                node = self._cache.add(node, segment, key_values=kept, hidden=hidden[end - 1].clone())


def _families(branches: list[_Branch]) -> list[_Family]:
    """Group adjacent branches by parent, and make their attention masks."""
    by_parent: dict[PrefixNode, list[int]] = {}
    for branch in branches:
        by_parent.setdefault(branch.parent, []).append(branch.length)
    families: list[_Family] = []
    first = 0
    for parent, lengths in by_parent.items():
        causal = [torch.ones(length, length, dtype=torch.bool).tril_() for length in lengths]
        own = torch.zeros(sum(lengths), sum(lengths)).masked_fill_(~torch.block_diag(*causal), float("-inf"))
        bias = torch.cat([own.new_zeros(len(own), parent.length), own], dim=1)
        past = parent.joined_key_values()
        families.append(_Family(rows=slice(first, first + len(own)), past=past, bias=bias))
        first += len(own)
    return families
