"""Bodies: read within limits of size and time. The connection is closed if a client still sends after the response."""

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from server.http.layers import UnreadBodies
from server.http.requests import read_body
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind
from tests.server.http.asgi_call import AsgiCall
from tests.server.http.uvicorn_listener import listening
from tests.server.serving import check_problem, serve

Headers = list[tuple[bytes, bytes]]

HEAD = b"POST /solve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
KEY = "0123456789abcdef"
KEYED = Settings(max_body_bytes=1000, api_keys=SecretStr(KEY))
JSON = "content-type: application/json"
SHOWN = f"x-api-key: {KEY}"
LONG = "content-length: 100000000"
CHUNKED = "transfer-encoding: chunked"
PARTS = 1000
"""Of 64 KiB each: more than the sockets between the two can hold."""


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_another_media_type_is_unsupported(content_type: str) -> None:
    body = json.dumps({"problem": "1+2"}).encode()
    async with serve() as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": content_type})
    check_problem(response, 415, "unsupported-media-type")


async def test_a_charset_parameter_does_no_harm() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    async with serve() as served:
        response = await served.client.post("/solve", content=b'{"problem": "1+1"}', headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_body_over_the_limit_is_too_large(*, is_declared: bool) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(3):
            yield b" " * 50

    body = b" " * 101 if is_declared else chunks()
    headers = {"content-type": "application/json"}
    async with serve(settings=Settings(max_body_bytes=100)) as served:
        response = await served.client.post("/solve", content=body, headers=headers)
    problem = check_problem(response, 413, "body-too-large")
    (error,) = problem["errors"]
    assert (error["limit"], error["value"]) == (100, 101 if is_declared else 150)


async def test_a_body_at_the_limit_is_read() -> None:
    body = b'{"problem": "1+1"}'
    async with serve(settings=Settings(max_body_bytes=len(body))) as served:
        response = await served.client.post("/solve", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


async def _read(*messages: Message, time_s: float = 60.0) -> bytes:
    """The body of a client that sends so much and then nothing more."""
    coming: asyncio.Queue[Message] = asyncio.Queue()
    for message in messages:
        coming.put_nowait(message)
    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, coming.get)
    return await read_body(request, Settings(max_body_bytes=10, body_timeout_s=time_s))


async def test_the_parts_of_a_body_are_joined() -> None:
    first: Message = {"type": "http.request", "body": b"[1", "more_body": True}
    assert await _read(first, {"type": "http.request", "body": b"]"}) == b"[1]"


async def test_a_client_that_leaves_in_the_middle_is_an_exception() -> None:
    with pytest.raises(ClientDisconnect):
        await _read({"type": "http.request", "body": b"[1", "more_body": True}, {"type": "http.disconnect"})


async def test_a_body_that_does_not_come_is_refused_in_time() -> None:
    with pytest.raises(Refusal) as refused:
        await _read({"type": "http.request", "body": b"[1", "more_body": True}, time_s=0.01)
    assert refused.value.kind is RefusalKind.BODY_TIMEOUT
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


async def test_a_slow_client_gets_408_and_a_closed_connection() -> None:
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
async def test_a_response_before_the_body_ends_closes_the_connection(
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


async def test_requests_whose_body_was_read_keep_their_connection() -> None:
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
async def test_the_head_of_a_request_says_whether_it_has_a_body(headers: Headers, connection: bytes) -> None:
    assert await _answer(headers, unread=1) == [(b"connection", connection)]


@pytest.mark.parametrize(("unread", "connection"), [(0, b"keep-alive"), (1, b"close")])
async def test_a_body_is_read_once_its_last_part_is(unread: int, connection: bytes) -> None:
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
    return start["headers"]


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
