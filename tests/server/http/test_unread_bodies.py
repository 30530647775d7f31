"""Unread bodies: refused uploaders are cut off, and everybody else keeps the connection. By the real server."""

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest
from pydantic import SecretStr

from server.http.asgi import Headers, Message, Receive, Scope, Send, headers_of
from server.http.unread_bodies import UnreadBodies
from server.parts.fakes import serve
from server.settings.settings import Settings
from tests.server.http.uvicorn_listener import listening

KEY = "0123456789abcdef"
KEYED = Settings(max_body_bytes=1000, api_keys=SecretStr(KEY))
JSON = "content-type: application/json"
SHOWN = f"x-api-key: {KEY}"
LONG = "content-length: 100000000"
CHUNKED = "transfer-encoding: chunked"
PARTS = 1000
"""Of 64 KiB each: more than the sockets between the two can hold."""


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("POST /solve", [SHOWN, JSON, LONG], 413),
        ("POST /solve", [SHOWN, JSON, LONG, "expect: 100-continue"], 413),
        ("POST /solve", [SHOWN, JSON, CHUNKED], 413),
        ("POST /solve", [SHOWN, CHUNKED], 415),
        ("POST /nothing", [SHOWN, LONG], 404),
        ("PUT /solve", [SHOWN, CHUNKED], 405),
        ("POST /solve", [JSON, LONG], 401),
        ("GET /healthz", [LONG], 200),
    ],
)
async def test_who_is_answered_before_the_end_of_the_body_is_cut_off(
    request_line: str, headers: list[str], status: int
) -> None:
    head = "\r\n".join([f"{request_line} HTTP/1.1", "host: x", *headers, "", ""]).encode()
    async with serve(settings=KEYED) as served, listening(served.app) as listener, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(head + _chunk(2000))
        answer = await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(ConnectionError):
            await _write_on(writer)
        writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.lower().count(b"connection: close") == answer.lower().count(b"connection:") == 1


async def test_requests_that_are_read_keep_their_connection_whatever_the_answer() -> None:
    body: dict[str, object] = {"problem": "1+2", "trajectories": 1}
    key = {"x-api-key": KEY}
    json_key = {**key, "content-type": "application/json"}
    async with serve(settings=KEYED) as served, listening(served.app) as listener, asyncio.timeout(60):
        host, port = listener.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as client:
            responses = [
                await client.get("/healthz"),
                await client.post("/solve", json=body, headers=key),
                await client.post("/solve", json={**body, "stream": True}, headers=key),
                await client.post("/solve", content=_in_parts(json.dumps(body).encode()), headers=json_key),
                await client.post("/solve", content=b"{", headers=json_key),
                await client.post("/solve", json={"problem": ""}, headers=key),
                await client.post("/solve", headers=key),
                await client.post("/solve/nobodys/cancel", headers=key),
                await client.get("/nothing", headers=key),
                await client.post("/solve"),
            ]
    assert [response.status_code for response in responses] == [200, 200, 200, 200, 400, 422, 415, 404, 404, 401]
    assert [response.headers.get("connection") for response in responses] == [None] * len(responses)
    assert len(listener.connections) == 1


@pytest.mark.parametrize(
    ("headers", "connection"),
    [
        ([], b"keep-alive"),
        ([(b"content-length", b"0")], b"keep-alive"),
        ([(b"content-length", b"10")], b"close"),
        ([(b"transfer-encoding", b"chunked")], b"close"),
        ([(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], b"close"),
    ],
)
async def test_a_request_has_a_body_where_its_head_says_so(headers: Headers, connection: bytes) -> None:
    assert await _answer(headers, unread=1) == [(b"connection", connection)]


@pytest.mark.parametrize(("unread", "connection"), [(0, b"keep-alive"), (1, b"close")])
async def test_a_body_is_read_with_its_last_part(unread: int, connection: bytes) -> None:
    assert await _answer([(b"content-length", b"2")], unread=unread) == [(b"connection", connection)]


async def _answer(headers: Headers, *, unread: int) -> Headers:
    """The headers of an answer that names a connection of its own, when so many of a body's parts are unread."""
    parts: list[Message] = [{"type": "http.request", "body": b"1"}, {"type": "http.request", "more_body": True}]
    sent: list[Message] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while len(parts) > unread:
            await receive()
        own = (b"connection", b"keep-alive")
        await send({"type": "http.response.start", "status": 200, "headers": [own]})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return parts.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await UnreadBodies(app)({"type": "http", "headers": headers}, receive, send)
    start, _ = sent
    return headers_of(start)


async def _write_on(writer: asyncio.StreamWriter) -> None:
    for _ in range(PARTS):
        writer.write(_chunk(65536))
        await writer.drain()


def _chunk(size: int) -> bytes:
    """Of a chunked body; in any other these are bytes like others."""
    return f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"


async def _in_parts(body: bytes) -> AsyncGenerator[bytes]:
    """Which is how a body goes out chunked."""
    yield body[:5]
    yield body[5:]
