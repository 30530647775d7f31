"""One request made by hand, for tests whose client leaves, is slow, or reads a stream as it comes."""

import asyncio
import json
from collections.abc import Mapping
from typing import cast

from starlette.types import Message

from server.http.streams import ServerEvent, read_frames
from tests.server.serving import Served


class AsgiCall:
    """A `POST`, to `/solve` if no path is given; without a body nothing of one has come yet."""

    def __init__(
        self,
        served: Served,
        body: Mapping[str, object] | None,
        *,
        address: str = "127.0.0.1",
        path: str = "/solve",
    ) -> None:
        self._app = served.app
        self._address = address
        self._path = path
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        if body is not None:
            self._incoming.put_nowait({"type": "http.request", "body": json.dumps(body).encode(), "more_body": False})
        self.sent: list[Message] = []
        self._sent_more = asyncio.Event()

    async def has_sent(self, bodies: list[bytes]) -> None:
        """Until each of these has gone out, among others, as often as it is named."""
        while any(sum(sent.get("body") == body for sent in self.sent) < bodies.count(body) for body in bodies):
            await self._more()

    async def has_sent_event(self, name: str) -> ServerEvent:
        """Until an event of that name has gone out."""
        while not (found := [event for event in self._events() if event.name == name]):
            await self._more()
        return found[0]

    def send_part(self, part: bytes) -> None:
        """Some of the body, and more to come."""
        self._incoming.put_nowait({"type": "http.request", "body": part, "more_body": True})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def run(self) -> None:
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "server": ("fake", 80),
            "client": (self._address, 1),
        }
        await self._app(scope, self._incoming.get, self._send)

    @property
    def body(self) -> bytes:
        """All that has gone out so far."""
        return b"".join(cast("bytes", message.get("body", b"")) for message in self.sent)

    def _events(self) -> list[ServerEvent]:
        return list(read_frames(self.body.decode().split("\n")))

    async def _more(self) -> None:
        self._sent_more.clear()
        await self._sent_more.wait()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self._sent_more.set()
