"""Values: a tree as the bytes that a store holds, and back.

    header   magic, schema, codec, length of the content, checksum
    content  the tree as JSON (`search.codec`), compressed by zstd

A store may return anything: a value of an older server, half a value, bytes of somebody else. `decode` raises
`BadValue` for all that `encode` did not write. It never decompresses more than `MAX_CONTENT_BYTES`, and runs no code
from a value.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import NoReturn, cast

from backports import zstd

from search import Tree, load
from search.codec import VERSION
from search.errors import TreeFormatError

MAGIC = b"RSTR"
SCHEMA = VERSION
"""The version of the JSON inside."""
JSON_ZSTD = 1
"""The only codec so far."""
MAX_CONTENT_BYTES = 64 << 20
"""About 40,000 nodes: more than the largest budget makes."""
_LEVEL = 3
"""zstd's default: a tree shrinks about tenfold at some hundred megabytes a second."""
_MAX_WINDOW_LOG = 26
"""A window of 64 MiB: as much as the content may have."""

_HEAD = struct.Struct(">4sHBI")
_CHECKSUM_BYTES = 16
HEADER_BYTES = _HEAD.size + _CHECKSUM_BYTES


class BadValue(Exception):
    """These bytes are not a tree that this server can read."""


class NotStorable(Exception):
    """The tree is larger than `decode` would read, or holds a number that JSON lacks."""


def encode(saved: Mapping[str, object]) -> bytes:
    """The value for a tree that `search.save` has saved. Raises `NotStorable`."""
    try:
        content = json.dumps(saved, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise NotStorable(str(error)) from error
    if len(content) > MAX_CONTENT_BYTES:
        raise NotStorable(f"a tree of {len(content)} bytes is above the limit of {MAX_CONTENT_BYTES}")
    head = _HEAD.pack(MAGIC, SCHEMA, JSON_ZSTD, len(content))
    compressed = zstd.compress(content, level=_LEVEL)
    return head + _checksum(head, compressed) + compressed


def decode(value: bytes) -> Tree:
    """The tree that was encoded. Raises `BadValue`."""
    if len(value) < HEADER_BYTES:
        raise BadValue(f"expected at least {HEADER_BYTES} bytes, got {len(value)}")
    head, checksum, compressed = value[: _HEAD.size], value[_HEAD.size : HEADER_BYTES], value[HEADER_BYTES:]
    magic, schema, codec, length = cast("tuple[bytes, int, int, int]", _HEAD.unpack(head))
    if (magic, schema, codec) != (MAGIC, SCHEMA, JSON_ZSTD):
        raise BadValue(f"expected {MAGIC!r}, schema {SCHEMA}, codec {JSON_ZSTD}, got {magic!r}, {schema}, {codec}")
    if length > MAX_CONTENT_BYTES:
        raise BadValue(f"expected at most {MAX_CONTENT_BYTES} bytes of content, got {length}")
    if _checksum(head, compressed) != checksum:
        raise BadValue("the checksum does not match")
    try:
        content = _decompressed(compressed, length)
        return load(cast("Mapping[str, object]", json.loads(content, parse_constant=_refuse_constant)))
    except (zstd.ZstdError, EOFError, ValueError, TypeError, AttributeError, RecursionError, TreeFormatError) as error:
        raise BadValue(f"{type(error).__name__}: {error}") from error


def _decompressed(compressed: bytes, length: int) -> bytes:
    """Exactly so many bytes, from one frame and nothing behind it."""
    frames = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})
    content = frames.decompress(compressed, max_length=length + 1)
    if len(content) != length or not frames.eof or frames.unused_data:
        raise BadValue(f"expected {length} bytes of content in one frame, got others")
    return content


def _checksum(head: bytes, compressed: bytes) -> bytes:
    return hashlib.blake2b(head + compressed, digest_size=_CHECKSUM_BYTES).digest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that a tree holds")
