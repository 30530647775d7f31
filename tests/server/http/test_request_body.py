"""Request bodies: read within limits of time, and what becomes of a client that takes longer."""

import asyncio
import json

import pytest

from server.http.asgi import Message
from server.http.request_body import BodyLimits, ClientLeft, read_body
from server.parts.fakes import serve
from server.settings.settings import Settings
from server.solving.refusals import Kind, Refusal
from tests.server.http.asgi_call import AsgiCall
from tests.server.http.uvicorn_listener import listening

JSON = [(b"content-type", b"application/json")]
HEAD = b"POST /solve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"


async def _read(*messages: Message, time_s: float = 60.0) -> bytes:
    """Of a client that says so much and then nothing more."""
    coming: asyncio.Queue[Message] = asyncio.Queue()
    for message in messages:
        coming.put_nowait(message)
    return await read_body(JSON, coming.get, BodyLimits(size_bytes=10, time_s=time_s))


async def test_the_parts_of_a_body_are_joined() -> None:
    first: Message = {"type": "http.request", "body": b"[1", "more_body": True}
    assert await _read(first, {"type": "http.request", "body": b"]"}) == b"[1]"


async def test_a_client_that_leaves_in_the_middle_is_told_apart() -> None:
    with pytest.raises(ClientLeft):
        await _read({"type": "http.request", "body": b"[1", "more_body": True}, {"type": "http.disconnect"})


async def test_a_body_that_does_not_come_is_refused_after_the_time_for_it() -> None:
    with pytest.raises(Refusal) as refused:
        await _read({"type": "http.request", "body": b"[1", "more_body": True}, time_s=0.01)
    assert refused.value.kind is Kind.BODY_TIMEOUT
    assert "0.01 s" in refused.value.detail


async def test_the_operator_says_how_long_a_body_may_take() -> None:
    async with serve(settings=Settings(body_timeout_s=0.05)) as served, asyncio.timeout(30):
        call = AsgiCall(served, None)
        call.send_part(b'{"problem"')
        await call.run()
        after = await served.client.post("/solve", json={"problem": "1+2", "trajectories": 1})
    start, *_ = call.sent
    problem = json.loads(call.body)
    assert (start["status"], problem["status"], problem["type"]) == (408, 408, "urn:rstar:problem:body-timeout")
    assert after.status_code == 200


async def test_a_client_that_dawdles_is_answered_and_its_connection_closed() -> None:
    """By the real server: it would otherwise listen for as long as something comes."""
    settings = Settings(body_timeout_s=0.05)
    async with serve(settings=settings) as served, listening(served.app) as listener, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(HEAD + b"{")
        answer = await reader.read()  # until the other side closes
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["type"] == "urn:rstar:problem:body-timeout"
