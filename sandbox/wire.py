"""Wire: the bytes exchanged with the zygote and with step processes, for both ends.

Control socket (packets), server and zygote: `Fork` and `Kill` go in, one hello (JSON) and then `Exit` come out. The
zygote runs no step code, so its packets are trusted. Step socket (a stream, one per step): the program goes in; the
mark `STARTED` and one report come out, after which the process exits. Step code can write to this socket, so a report
is read as fixed binary fields whose lengths must add up exactly. Never parses what a step wrote as anything richer.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

MAX_ERROR_BYTES = 1000
"""Enough for every ordinary message; some exceptions quote whole expressions."""

STARTED = b"S"
"""Written once the path before the step is rebuilt."""

EXIT_MEMORY = 71
"""Exit code of a step process without the memory left to report."""
EXIT_UNCONFINED = 72
"""Exit code of a step process that could not be confined; it ran nothing."""

_FORK = struct.Struct("<cQIIIII")
_KILL = struct.Struct("<cQ")
_EXIT = struct.Struct("<cQid")
_LENGTH = struct.Struct("<I")
_STEP = struct.Struct("<QI")
_REPORT = struct.Struct("<BdIII")


class Status(IntEnum):
    """How a step process says its step ended."""

    OK = 0
    ERROR = 1
    MEMORY = 2
    OUTPUT_LIMIT = 3
    REPLAY_FAILED = 4


class Fork(NamedTuple):
    """Fork a step process; the step socket travels with it."""

    job: int
    cpu_s: int
    memory_mb: int
    stack_mb: int
    open_files: int
    output_bytes: int


class Kill(NamedTuple):
    """Kill a job's process, if it still runs."""

    job: int


class Exit(NamedTuple):
    """A job's process is gone."""

    job: int
    wait_status: int
    cpu_seconds: float


class Step(NamedTuple):
    """One piece of a program and the seed set before it."""

    seed: int
    code: str


class Report(NamedTuple):
    """What a step process says of its step."""

    status: Status
    cpu_seconds: float
    stdout: str
    value: str | None
    error: str | None


def encode_command(command: Fork | Kill) -> bytes:
    match command:
        case Fork():
            return _FORK.pack(b"F", *command)
        case Kill():
            return _KILL.pack(b"K", *command)


def decode_command(packet: bytes) -> Fork | Kill:
    if packet[:1] == b"F":
        return Fork(*_FORK.unpack(packet)[1:])
    return Kill(*_KILL.unpack(packet)[1:])


def encode_exit(notice: Exit) -> bytes:
    return _EXIT.pack(b"X", *notice)


def decode_exit(packet: bytes) -> Exit:
    return Exit(*_EXIT.unpack(packet)[1:])


def encode_program(steps: Iterable[Step]) -> bytes:
    """The steps of a path, the new one last, with a length prefix."""
    body = bytearray()
    for step in steps:
        code = step.code.encode("utf-8", "surrogatepass")
        body += _STEP.pack(step.seed, len(code)) + code
    return _LENGTH.pack(len(body)) + body


def program_length(prefix: bytes) -> int | None:
    """Bytes of the whole message, once its length prefix is there."""
    if len(prefix) < _LENGTH.size:
        return None
    return _LENGTH.size + _LENGTH.unpack_from(prefix)[0]


def decode_program(message: bytes) -> list[Step]:
    steps: list[Step] = []
    offset = _LENGTH.size
    while offset < len(message):
        seed, length = _STEP.unpack_from(message, offset)
        offset += _STEP.size
        steps.append(Step(seed, message[offset : offset + length].decode("utf-8", "surrogatepass")))
        offset += length
    return steps


def encode_report(report: Report) -> bytes:
    """Absent texts have length 0: an empty `repr` or message does not occur."""
    texts = [(text or "").encode("utf-8", "replace") for text in (report.stdout, report.value, report.error)]
    return _REPORT.pack(report.status, report.cpu_seconds, *map(len, texts)) + b"".join(texts)


def max_report_bytes(output_bytes: int) -> int:
    return _REPORT.size + 2 * output_bytes + MAX_ERROR_BYTES


def decode_report(message: bytes, *, output_bytes: int) -> Report | None:
    """The report, or None where the bytes are not exactly one."""
    if len(message) < _REPORT.size:
        return None
    status, cpu_seconds, *lengths = _REPORT.unpack_from(message)
    allowed = (output_bytes, output_bytes, MAX_ERROR_BYTES)
    is_exact = len(message) == _REPORT.size + sum(lengths)
    is_sane = status < len(Status) and 0.0 <= cpu_seconds < float("inf")
    if not is_exact or not is_sane or any(size > most for size, most in zip(lengths, allowed, strict=True)):
        return None
    texts: list[str] = []
    offset = _REPORT.size
    for length in lengths:
        texts.append(message[offset : offset + length].decode("utf-8", "replace"))
        offset += length
    return Report(Status(status), cpu_seconds, texts[0], texts[1] or None, texts[2] or None)


def cut(text: str, max_bytes: int) -> str:
    """The longest head of `text` that fits into `max_bytes` of UTF-8."""
    return text[:max_bytes].encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")
