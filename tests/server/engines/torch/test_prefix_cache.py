# pyright: basic
"""The prefix cache: what is held, and what goes first."""

import torch

from server.engines.torch.prefix_cache import PrefixCache, PrefixNode

EMPTY = torch.zeros(1, 2, 1, 0, 2)
NODE_BYTES = 4 * (4 * 2 + 3)


def make(*, nodes: int) -> PrefixCache:
    return PrefixCache(max_bytes=nodes * NODE_BYTES, empty_key_values=EMPTY)


def add(cache: PrefixCache, *segments: tuple[int, ...]) -> PrefixNode:
    """Hold a path whose segments have two tokens each."""
    node, depth = cache.deepest(segments)
    for segment in segments[depth:]:
        key_values = torch.full((1, 2, 1, 2, 2), float(segment[0]))
        node = cache.add(node, segment, key_values=key_values, hidden=torch.zeros(3))
    return node


def held(cache: PrefixCache, *segments: tuple[int, ...]) -> int:
    return cache.deepest(segments)[1]


A, B, C = (1, 1), (2, 2), (3, 3)


def test_the_longest_held_prefix_is_found() -> None:
    cache = make(nodes=9)
    add(cache, A, B)
    assert [held(cache, *path) for path in [(A, B, C), (A, C), (B,), ()]] == [2, 1, 0, 0]


def test_a_segment_is_held_once() -> None:
    cache = make(nodes=9)
    assert add(cache, A, B).parent is add(cache, A, C).parent
    assert len(cache) == 3
    assert cache.nbytes == 3 * NODE_BYTES


def test_the_same_segment_elsewhere_is_another_node() -> None:
    cache = make(nodes=9)
    assert add(cache, A, B) is not add(cache, B)


def test_the_least_recently_used_leaf_goes_first() -> None:
    cache = make(nodes=3)
    add(cache, A, B)
    add(cache, A, C)
    held(cache, A, B)
    add(cache, C)
    cache.trim()
    assert [held(cache, A, B), held(cache, A, C), held(cache, C)] == [2, 1, 1]


def test_the_bound_in_bytes_holds_after_trimming() -> None:
    cache = make(nodes=4)
    for number in range(20):
        add(cache, A, (number, 1), (number, 2))
        cache.trim()
        assert cache.nbytes <= 4 * NODE_BYTES
    assert len(cache) == 4


def test_a_forgotten_node_keeps_its_own_prefix() -> None:
    cache = make(nodes=0)
    node = add(cache, A, B)
    cache.trim()
    assert len(cache) == 0
    assert node.joined_key_values()[0, 0, 0, :, 0].tolist() == [1, 1, 2, 2]
