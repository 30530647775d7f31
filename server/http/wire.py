"""Wire: payloads as bytes, JSON and server-sent events, and the events read back. Knows nothing of what they mean."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, cast

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of event streams skips; keeps proxies from closing a silent connection."""


class ServerEvent(NamedTuple):
    """One server-sent event."""

    name: str
    payload: dict[str, object]


_LINE_BREAKS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})
"""Characters that many a reader of lines, Python's included, takes for the end of one. JSON escapes all the others."""


def json_bytes(payload: object) -> bytes:
    """One line of UTF-8. Half a surrogate pair, which a program may print, becomes a question mark."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    return text.translate(_LINE_BREAKS).encode("utf-8", errors="replace")


def json_bytes_by_pieces(payload: Mapping[str, object]) -> bytes:
    """The same, each item of a list by itself: on a thread it lets others run between two of them, not within one."""
    return b"{" + b", ".join(json_bytes(name) + b": " + _value(value) for name, value in payload.items()) + b"}"


def frame(event: ServerEvent) -> bytes:
    """The event as it goes out, in one line of data."""
    return frame_of(event.name, json_bytes(event.payload))


def frame_of(name: str, line: bytes) -> bytes:
    """An event whose payload is one line of JSON already."""
    return b"event: " + name.encode() + b"\ndata: " + line + b"\n\n"


def read_frames(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events in the lines of a stream made by `frame`; comments are skipped."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield ServerEvent(name, cast("dict[str, object]", json.loads(line.removeprefix("data: "))))


def _value(value: object) -> bytes:
    if isinstance(value, list):
        return b"[" + b", ".join(json_bytes(item) for item in cast("list[object]", value)) + b"]"
    return json_bytes(value)
