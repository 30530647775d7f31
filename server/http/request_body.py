"""Request body: reads one as an ASGI server hands it over, within limits of type, size and time. Knows no JSON."""

import asyncio
from dataclasses import dataclass
from typing import cast

from server.http.asgi import Headers, Receive
from server.solving.refusals import Kind, Refusal, over_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """What an operator allows."""

    size_bytes: int
    time_s: float
    """From the request's head to the last byte of its body."""


class ClientLeft(Exception):
    """The connection was closed before the end of the body: there is nobody to answer."""


async def read_body(headers: Headers, receive: Receive, limits: BodyLimits) -> bytes:
    """The whole of it, not empty. Raises a `Refusal`, or `ClientLeft`."""
    values = {name: value.decode("latin-1") for name, value in headers}
    media_type = values.get(b"content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"expected content-type application/json, got {media_type!r}")
    declared = values.get(b"content-length", "")
    if declared.isdecimal() and int(declared) > limits.size_bytes:
        raise _too_large(int(declared), limits)
    try:
        async with asyncio.timeout(limits.time_s):
            body = await _read(receive, limits)
    except TimeoutError:
        detail = f"the body was not complete {limits.time_s:g} s after the head of the request"
        raise Refusal(Kind.BODY_TIMEOUT, detail) from None
    if not body:
        raise Refusal(Kind.MALFORMED_BODY, "a JSON object is required, got an empty body")
    return body


async def _read(receive: Receive, limits: BodyLimits) -> bytes:
    body = bytearray()
    is_complete = False
    while not is_complete:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += cast("bytes", message.get("body", b""))
        if len(body) > limits.size_bytes:
            raise _too_large(len(body), limits)
        is_complete = not message.get("more_body", False)
    return bytes(body)


def _too_large(size: int, limits: BodyLimits) -> Refusal:
    error = over_limit("", size, limit=limits.size_bytes, unit=" bytes")
    return Refusal(Kind.BODY_TOO_LARGE, error.detail, errors=(error,))
