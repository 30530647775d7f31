"""Trace context: the W3C headers `traceparent` and `tracestate`, read and written. The malformed count as absent."""

import re
import secrets
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

SAMPLED = 0x01
_KNOWN_FLAGS = 0x03
"""Sampled, and that the trace id is random; others mean nothing yet, and must not be passed on."""
_MAX_STATE_CHARS = 512
"""The least that everyone has to pass on; there is no need for more."""
_MAX_STATE_MEMBERS = 32

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(rf"({_KEY})=({_VALUE})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A place in a trace: what is done next belongs below it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    flags: int = 0
    state: str = ""
    """`tracestate`, passed on as it came."""

    @property
    def traceparent(self) -> str:
        """The header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def headers(self) -> dict[str, str]:
        """What tells another server of it."""
        return {TRACEPARENT: self.traceparent, **({TRACESTATE: self.state} if self.state else {})}


def new_trace_context() -> TraceContext:
    """The beginning of a trace that nobody records."""
    return TraceContext(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8))


def read_trace_context(headers: list[tuple[bytes, bytes]]) -> TraceContext | None:
    """Of a request with these headers, their names in lower case; None where they hold no valid one."""
    parents = _values(headers, TRACEPARENT)
    match = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    # A later version may say more behind the flags; this one may not.
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    state = _read_state(",".join(_values(headers, TRACESTATE)))
    return TraceContext(trace_id=trace_id, span_id=span_id, flags=int(flags, 16) & _KNOWN_FLAGS, state=state)


def _read_state(text: str) -> str:
    """Without what is empty in it; empty if anything else is wrong."""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match}
    state = ",".join(members)
    is_valid = len(keys) == len(members) <= _MAX_STATE_MEMBERS and len(state) <= _MAX_STATE_CHARS
    return state if is_valid else ""


def _values(headers: list[tuple[bytes, bytes]], wanted: str) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted.encode()]
