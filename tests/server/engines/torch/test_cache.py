# pyright: basic
"""The prefix cache: cached segments, order of eviction, and the work of the encoder."""

from pathlib import Path as FilePath

import pytest
import torch

from server.engines.protocols import EngineStats
from server.engines.torch.cache import PathEncoder, PrefixCache, PrefixNode
from tests.server.engines.torch.reference import Reference, tokens

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


@pytest.fixture(scope="module")
def reference(policy_folder: FilePath) -> Reference:
    return Reference(policy_folder)


@torch.inference_mode()
def test_cuts_and_company_do_not_change_a_path(reference: Reference) -> None:
    root, other = tokens(30, seed=2), tokens(11, seed=3)
    steps = [tokens(length, seed=length) for length in (1, 5, 17, 4)]
    paths = [
        (root,),
        (root, steps[0]),
        (root, steps[1]),
        (root, steps[1]),
        (root, steps[1], steps[2], steps[3]),
        (other, steps[0], steps[2]),
        (other,),
    ]
    nodes = reference.encoder.encode(paths)
    for path, node in zip(paths, nodes, strict=True):
        ids = tuple(token for segment in path for token in segment)
        assert node.length == len(ids)
        torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_only_the_new_step_of_a_child_is_computed(reference: Reference) -> None:
    root, step, sibling = tokens(40, seed=21), tokens(6, seed=22), tokens(8, seed=23)
    reference.encoder.encode([(root, step)])
    before = reference.counters.tokens_encoded
    reference.encoder.encode([(root, sibling), (root, step, sibling), (root, step)])
    assert reference.counters.tokens_encoded - before == 2 * len(sibling)


@torch.inference_mode()
def test_a_path_larger_than_the_cache_is_still_right(policy_folder: FilePath) -> None:
    reference = Reference(policy_folder)
    reference.encoder = PathEncoder(reference.model, cache_bytes=1, counters=EngineStats())
    path = (tokens(50, seed=4), tokens(5, seed=5), tokens(6, seed=6))
    ids = tuple(token for segment in path for token in segment)
    for _ in range(2):
        (node,) = reference.encoder.encode([path])
        torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)
