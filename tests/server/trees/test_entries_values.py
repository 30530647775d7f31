"""Values: exact there and back, and a refusal for all that was not written by `encode`."""

import hashlib
import json
import struct
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from search import NodeId, Tree, save
from server.trees import entries
from server.trees.entries import HEADER_BYTES, BadValue, NotStorable, decode, encode
from tests.server.trees.grown import grown_tree

VALUE = encode(save(grown_tree()))


def forged(content: bytes, *, length: int | None = None, schema: int = entries.SCHEMA, codec: int = 1) -> bytes:
    """A value with a right checksum around any content, compressed already."""
    head = struct.pack(">4sHBI", entries.MAGIC, schema, codec, len(content) if length is None else length)
    return head + hashlib.blake2b(head + content, digest_size=16).digest() + content


def forged_json(text: str) -> bytes:
    """A value with a right checksum and length around any JSON."""
    return forged(zstd.compress(text.encode()), length=len(text.encode()))


@pytest.mark.parametrize("trajectories", [0, 1, 30])
def test_a_tree_comes_back_as_it_was(trajectories: int) -> None:
    tree = grown_tree(trajectories, problem="∫ x² dx, half a pair: \ud800")
    assert decode(encode(save(tree))) == tree


def test_values_are_much_shorter_than_their_json() -> None:
    saved = save(grown_tree(64))
    assert len(encode(saved)) < len(json.dumps(saved)) / 8


@given(st.binary(max_size=200))
def test_bytes_that_are_no_value_are_refused(value: bytes) -> None:
    with pytest.raises(BadValue):
        decode(value)


@given(st.integers(0, len(VALUE) - 1))
def test_a_value_cut_short_is_refused(length: int) -> None:
    with pytest.raises(BadValue):
        decode(VALUE[:length])


@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
def test_a_value_with_one_changed_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(VALUE)
    damaged[position] ^= change
    with pytest.raises(BadValue):
        decode(bytes(damaged))


@given(st.binary(min_size=1, max_size=20))
def test_a_value_with_more_behind_it_is_refused(rest: bytes) -> None:
    with pytest.raises(BadValue):
        decode(VALUE + rest)


@given(st.binary(max_size=100))
def test_content_that_is_not_zstd_is_refused(content: bytes) -> None:
    with pytest.raises(BadValue):
        decode(forged(content))


def _saved_nodes() -> list[dict[str, object]]:
    return json.loads(json.dumps(save(grown_tree())))["nodes"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(JSON_VALUES)
def test_json_that_is_no_tree_is_refused(content: object) -> None:
    with pytest.raises(BadValue):
        decode(forged_json(json.dumps(content)))


@given(st.sampled_from(sorted(_saved_nodes()[1])), JSON_VALUES)
def test_a_node_with_any_field_replaced_is_read_or_refused(field: str, content: object) -> None:
    saved = json.loads(json.dumps(save(grown_tree())))
    saved["nodes"][1][field] = content
    try:
        tree = decode(forged_json(json.dumps(saved)))
    except BadValue:
        return
    assert isinstance(tree, Tree)
    assert tree.path(NodeId(len(tree.nodes) - 1)).problem == "1+2"


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "9" * 5000, '{"version": 1}', ""])
def test_json_that_no_tree_is_written_as_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        decode(forged_json(text))


def test_other_schemas_codecs_and_magics_are_refused() -> None:
    content = VALUE[HEADER_BYTES:]
    length = struct.unpack(">4sHBI", VALUE[:11])[3]
    assert decode(forged(content, length=length)) == grown_tree()
    for value in (
        forged(content, length=length, schema=entries.SCHEMA + 1),
        forged(content, length=length, codec=2),
        b"XXXX" + VALUE[4:],
        zlib.compress(VALUE),
    ):
        with pytest.raises(BadValue):
            decode(value)


@pytest.mark.parametrize("difference", [-1, 1, 1000])
def test_another_length_than_declared_is_refused(difference: int) -> None:
    content = VALUE[HEADER_BYTES:]
    length = struct.unpack(">4sHBI", VALUE[:11])[3]
    with pytest.raises(BadValue):
        decode(forged(content, length=length + difference))


def test_a_bomb_is_refused_before_it_is_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zstd.compress(b"0" * (8 << 20))
    assert len(bomb) < 1000
    monkeypatch.setattr(entries, "MAX_CONTENT_BYTES", 1 << 20)
    with pytest.raises(BadValue, match="at most 1048576 bytes"):
        decode(forged(bomb, length=8 << 20))
    with pytest.raises(BadValue, match="expected 1000 bytes of content"):
        decode(forged(bomb, length=1000))


def test_a_tree_too_large_to_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_CONTENT_BYTES", 1000)
    with pytest.raises(NotStorable, match="above the limit of 1000"):
        encode(save(grown_tree()))


def test_a_number_that_json_lacks_is_not_written() -> None:
    tree = grown_tree()
    tree.root.value_sum = float("nan")
    with pytest.raises(NotStorable):
        encode(save(tree))
