# pyright: basic
"""The prefix cache: keys and values of path segments, in a tree that mirrors the search trees.

A node holds one segment (the prompt, or a step with its output) and reaches the rest through its parents, so that
siblings share everything above them. The least recently used go first. Touching a node touches its ancestors after it;
the oldest node is therefore always a leaf. Never runs a model. Not thread-safe: it belongs to one encoder. Nodes that
were handed out may be read by any thread, since nothing of them but their children ever changes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

TokenSegment: TypeAlias = tuple[int, ...]


@dataclass(slots=True, eq=False)
class PrefixNode:
    """A segment in its place."""

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
    """Segment nodes under a bound in bytes."""

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
        """Forget the least recently used nodes until the bound holds. Whoever still holds a node can go on using it."""
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
