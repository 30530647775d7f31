"""A server of scripted answers on a real socket, in the event loop of the test."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

_BOUND_S = 60.0
"""For what takes milliseconds on an idle machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer."""

    content: object = None
    """JSON, or the text itself where it is bytes."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Drop:
    """Close the connection without an answer."""


class Hang:
    """Never answer; wait for the client to leave."""


Reply = Answer | Drop | Hang


@dataclass(slots=True)
class StubServer:
    """Answers each path from its list; the last one over and over. Unknown paths are 404."""

    port: int = 0
    script: dict[str, list[Reply]] = field(default_factory=dict[str, list[Reply]])
    asked: list[Asked] = field(default_factory=list[Asked])
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request arrives."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left without waiting for its answer."""
    connections: int = 0
    """Opened so far."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_asked(self) -> None:
        """Waits for the next request."""
        await _bounded(self.arrived)

    async def until_left(self) -> None:
        """Waits for a client that leaves without its answer."""
        await _bounded(self.left)

    def bodies(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not reader.at_eof() and await self._answer_one(reader, writer):
                pass
        writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        text = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(path=path, headers=headers, body=json.loads(text) if text else None))
        self.arrived.set()
        replies = self.script.get(path) or [Answer(status=404, content={"detail": "Not Found"})]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        match reply:
            case Drop():
                return False
            case Hang():
                await reader.read(1)
                self.left.set()
                return False
            case Answer():
                content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
                lines = [f"HTTP/1.1 {reply.status} X", f"content-length: {len(content)}"]
                lines += [f"{name}: {value}" for name, value in reply.headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + content)
                await writer.drain()
                return True


async def _bounded(event: asyncio.Event) -> None:
    async with asyncio.timeout(_BOUND_S):
        await event.wait()
    event.clear()


@asynccontextmanager
async def stub_server() -> AsyncGenerator[StubServer]:
    """A stub on a port of its own."""
    server = StubServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
