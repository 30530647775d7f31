"""Wire: the frames exchanged between server, zygote and the processes of a tree, for both ends.

Sockets keep message boundaries (SOCK_SEQPACKET), so a frame can be neither torn nor merged; its first byte says what it
is. The zygote runs no step code and is trusted: its hello is JSON. Nodes are not: the kernel names the sender, and a
report is read as fixed binary fields whose lengths must add up exactly.

    server -> zygote   MAKE_TREE options, with the tree's socket
    root   -> server   LISTENER with a descriptor, once; then HELLO, or FAILED and the reason
    server -> node     FORK, with the child's socket; the child answers there: HELLO
    server -> node     RUN seed, code; the node answers: REPORT
"""

import struct
from enum import IntEnum
from typing import NamedTuple

MAX_ERROR_BYTES = 1000
"""Enough for every ordinary message; some exceptions quote whole expressions."""

MAX_FRAME_BYTES = 192 * 1024
"""What an ordinary kernel's default socket buffer takes in one piece."""

MAKE_TREE = b"T"
LISTENER = b"L"
HELLO = b"H"
FAILED = b"X"
FORK = b"F"
RUN = b"R"
REPORT = b"D"

EXIT_MEMORY = 71
"""Exit code of a node without the memory left to report."""

_OPTIONS = struct.Struct("<cIIIII")
_RUN = struct.Struct("<cQ")
_REPORT = struct.Struct("<cBdIII")

REPORT_OVERHEAD_BYTES = _REPORT.size + MAX_ERROR_BYTES
RUN_OVERHEAD_BYTES = _RUN.size


class ReportStatus(IntEnum):
    """How a step ended, by its node's report."""

    OK = 0
    ERROR = 1
    MEMORY = 2
    OUTPUT_LIMIT = 3


class TreeOptions(NamedTuple):
    """The limits that the kernel enforces on every process of a tree."""

    cpu_s: int
    memory_mb: int
    stack_mb: int
    open_files: int
    output_bytes: int


class Report(NamedTuple):
    """A node's report of its step."""

    status: ReportStatus
    cpu_seconds: float
    stdout: str
    value: str | None
    error: str | None


def encode_options(options: TreeOptions) -> bytes:
    return _OPTIONS.pack(MAKE_TREE, *options)


def decode_options(frame: bytes) -> TreeOptions:
    return TreeOptions(*_OPTIONS.unpack(frame)[1:])


def encode_run(seed: int, code: str) -> bytes:
    return _RUN.pack(RUN, seed) + code.encode("utf-8", "surrogatepass")


def decode_run(frame: bytes) -> tuple[int, str]:
    return _RUN.unpack_from(frame)[1], frame[_RUN.size :].decode("utf-8", "surrogatepass")


def encode_report(report: Report) -> bytes:
    """Absent texts have length 0: an empty `repr` or message does not occur."""
    texts = [(text or "").encode("utf-8", "replace") for text in (report.stdout, report.value, report.error)]
    return _REPORT.pack(REPORT, report.status, report.cpu_seconds, *map(len, texts)) + b"".join(texts)


def decode_report(frame: bytes, *, output_bytes: int) -> Report | None:
    """The report, or None where the bytes are not exactly one."""
    if len(frame) < _REPORT.size:
        return None
    kind, status, cpu_seconds, *lengths = _REPORT.unpack_from(frame)
    allowed = (output_bytes, output_bytes, MAX_ERROR_BYTES)
    is_exact = kind == REPORT and len(frame) == _REPORT.size + sum(lengths)
    is_sane = status < len(ReportStatus) and 0.0 <= cpu_seconds < float("inf")
    if not is_exact or not is_sane or any(size > most for size, most in zip(lengths, allowed, strict=True)):
        return None
    texts: list[str] = []
    offset = _REPORT.size
    for length in lengths:
        texts.append(frame[offset : offset + length].decode("utf-8", "replace"))
        offset += length
    return Report(ReportStatus(status), cpu_seconds, texts[0], texts[1] or None, texts[2] or None)


def cut(text: str, max_bytes: int) -> str:
    """The longest head of `text` that fits into `max_bytes` of UTF-8."""
    return text[:max_bytes].encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
