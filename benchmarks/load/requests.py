"""Requests: streaming clients, the events each received and when, and how its request ended."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

import httpx

Body = Mapping[str, object]

_NAME, _PAYLOAD = "event: ", "data: "

_HANG_S = 600.0
_SEARCHED = {"stream": True, "cache": "bypass"}
"""Every request shall be a search, also of a problem that was asked before."""
"""The limit for one request. The server's own limit is at most this, and the requests ask for less."""


class Ending(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    """The last event is `done`."""
    REFUSED = "refused"
    """429 or 503 with `Retry-After`, as the API promises."""
    FAILED = "failed"
    """Any other status, a refusal without a time to retry, or a stream that ends in `error`."""
    BROKEN = "broken"
    """The connection broke, or the stream ended without its last event."""
    HUNG = "hung"
    """Given up by the client."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request as its client saw it; times in seconds from its sending."""

    ending: Ending = Ending.BROKEN
    status: int | None = None
    retry_after_s: int | None = None
    first_byte_s: float | None = None
    first_event_s: float | None = None
    whole_s: float = 0.0
    events: dict[str, int] = field(default_factory=dict[str, int])
    trajectories: int = 0
    """As counted in the result."""

    @property
    def lost_events(self) -> int:
        """Trajectories in the result without an event in the stream."""
        return abs(self.trajectories - self.events.get("trajectory", 0)) if self.ending is Ending.ANSWERED else 0


@asynccontextmanager
async def open_clients(count: int) -> AsyncGenerator[list[httpx.AsyncClient]]:
    """Clients with a connection pool each: a pool shared by hundreds of clients would be slower than the server."""
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads a file of certificates for each client
    async with AsyncExitStack() as stack:
        # Proxies in the environment must not be used for requests to this machine.
        yield [
            await stack.enter_async_context(httpx.AsyncClient(verify=no_tls, timeout=None, trust_env=False))
            for _ in range(count)
        ]


async def keep_asking(url: str, bodies: Sequence[Body], *, clients: int) -> list[Seen]:
    """Send all requests from `clients` clients, each of which sends its next as soon as the last has ended."""
    waiting: Iterator[Body] = iter(bodies)
    seen: list[Seen] = []

    async def ask_on(client: httpx.AsyncClient) -> None:
        for body in waiting:
            seen.append(await ask(client, url, body))  # noqa: PERF401  # in the order of their ends

    async with open_clients(clients) as opened, asyncio.TaskGroup() as group:
        for client in opened:
            group.create_task(ask_on(client))
    return seen


async def ask(client: httpx.AsyncClient, url: str, body: Body) -> Seen:
    """Send one request and read its stream of events to the end. Never raises."""
    seen = Seen()
    began_s = time.monotonic()
    try:
        async with (
            asyncio.timeout(_HANG_S),
            client.stream("POST", f"{url}/solve", json={**body, **_SEARCHED}) as got,
        ):
            seen.status = got.status_code
            if got.status_code == HTTPStatus.OK:
                await _follow(got, seen, began_s)
            else:
                await got.aread()
                seen.ending = _refused(got, seen)
    except TimeoutError:
        seen.ending = Ending.HUNG
    except httpx.HTTPError:
        seen.ending = Ending.BROKEN
    seen.whole_s = time.monotonic() - began_s
    return seen


async def _follow(response: httpx.Response, seen: Seen, began_s: float) -> None:
    """Read only the name of each event, and the last event whole: the clients have to be faster than the server."""
    last: str | None = None
    async for line in response.aiter_lines():
        if seen.first_byte_s is None:
            seen.first_byte_s = time.monotonic() - began_s
        if line.startswith(_NAME):
            last = line.removeprefix(_NAME)
            seen.events[last] = seen.events.get(last, 0) + 1
            if seen.first_event_s is None:
                seen.first_event_s = time.monotonic() - began_s
        elif last == "done" and line.startswith(_PAYLOAD):
            seen.ending = Ending.ANSWERED
            seen.trajectories = json.loads(line.removeprefix(_PAYLOAD))["usage"]["trajectories"]
        elif last == "error":
            seen.ending = Ending.FAILED


def _refused(response: httpx.Response, seen: Seen) -> Ending:
    given = response.headers.get("retry-after", "")
    seen.retry_after_s = int(given) if given.isdecimal() else None
    is_clear = response.status_code in (429, 503) and seen.retry_after_s is not None
    return Ending.REFUSED if is_clear else Ending.FAILED
