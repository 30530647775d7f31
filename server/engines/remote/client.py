"""The client of one remote server: JSON over HTTP, with time limits, retries and errors in words.

Knows nothing of models. A cancelled call closes its connection, which is how a vLLM server learns to stop generating.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self, cast

import httpx

from server.engines.remote.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.remote.payloads import JsonObject, as_object
from server.engines.remote.retries import Retries, is_worth_retrying, retry_after_s

logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 1024
"""More than the requests of all searches together; the server queues, not the client."""
_KEPT_ALIVE_S = 3.0
"""Shorter than the 5 seconds after which vLLM closes an idle connection, so that ours is never the one just closed."""
_QUOTED_CHARS = 300
"""Of an answer that is quoted in an error."""


def _no_headers() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """Where a server is, and what it wants to hear."""

    url: str
    """`http(s)://host:port`, with the path in front of `/v1` where there is one, no final slash."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token; never logged."""
    model: str | None = None
    """Name under which the server serves the model; None where it serves only one."""
    headers: Callable[[], Mapping[str, str]] = field(default=_no_headers, repr=False, compare=False)
    """Asked before each attempt, in the task that makes it: what else to send, such as the trace it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """How long to wait for a remote server."""

    connect_s: float = 5.0
    answer_s: float = 120.0
    """From the last byte of a request to the first of its answer: the whole generation, and its wait in the queue."""
    start_s: float = 300.0
    """For a server that is still starting: loading a model of many gigabytes takes minutes."""
    start_poll_s: float = 1.0
    retries: Retries = field(default_factory=Retries)


@dataclass(slots=True)
class RemoteTraffic:
    """What went over the wire since the client was made."""

    requests: int = 0
    """Attempts, the repeated ones included."""
    retries: int = 0
    """Attempts that repeat a failed one."""
    failures: int = 0
    """Calls without an answer after all attempts, or refused."""


class RemoteClient:
    """Asks one server. Use as an async context manager, in one event loop."""

    def __init__(
        self,
        address: RemoteAddress,
        *,
        limits: RemoteLimits | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = address.url
        self.limits = limits or RemoteLimits()
        self.traffic = RemoteTraffic()
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._headers = address.headers
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {address.api_key}"} if address.api_key else {},
            timeout=httpx.Timeout(self.limits.answer_s, connect=self.limits.connect_s),
            limits=httpx.Limits(
                max_connections=_MAX_CONNECTIONS,
                max_keepalive_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEPT_ALIVE_S,
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """The answer to a request. Raises `RemoteUnavailable`, `RemoteRefused` and `RemoteMismatch`."""
        return await self._ask("POST", path, body)

    async def get(self, path: str) -> JsonObject:
        """As `post`."""
        return await self._ask("GET", path, None)

    async def probe(self) -> None:
        """Ask once whether the server is well. Raises `RemoteUnavailable`."""
        try:
            response = await self._http.get(f"{self.url}/health", timeout=self.limits.connect_s)
        except httpx.TransportError as error:
            raise RemoteUnavailable(f"{self.url} cannot be reached ({_reason(error)})") from error
        if response.status_code >= 500:
            raise RemoteUnavailable(f"{self.url} says that its engine is not well (HTTP {response.status_code})")

    async def _ask(self, method: str, path: str, body: JsonObject | None) -> JsonObject:
        attempt = 0
        while True:
            attempt += 1
            self.traffic.requests += 1
            self.traffic.retries += attempt > 1
            try:
                response = await self._http.request(method, self.url + path, json=body, headers=dict(self._headers()))
            except httpx.ReadTimeout as error:
                # Asking again would only add to the load of a server that is too slow already.
                self.traffic.failures += 1
                raise RemoteUnavailable(
                    f"{self.url}{path} did not answer within {self.limits.answer_s:g} s; the server is overloaded, "
                    "or the limit is too short for its model: raise RSTAR_REMOTE_TIMEOUT_S"
                ) from error
            except httpx.TransportError as error:
                await self._wait(attempt, path, reason=f"cannot be reached ({_reason(error)})")
                continue
            if not is_worth_retrying(response.status_code):
                return self._read(path, response)
            asked_s = retry_after_s(response.headers.get("retry-after"), now=datetime.now(UTC))
            await self._wait(attempt, path, reason=_quoted(response), asked_s=asked_s)

    async def _wait(self, attempt: int, path: str, *, reason: str, asked_s: float | None = None) -> None:
        delay_s = self.limits.retries.delay_s(attempt, rng=self._rng, retry_after_s=asked_s)
        if delay_s is None:
            self.traffic.failures += 1
            patience = "" if asked_s is None else f" and asks to wait {asked_s:g} s"
            raise RemoteUnavailable(
                f"{self.url}{path} {reason}{patience}, after {attempt} attempts; "
                "check that the server is running and reachable from here"
            )
        logger.warning("%s%s %s; trying again in %.1f s", self.url, path, reason, delay_s)
        await self._sleep(delay_s)

    def _read(self, path: str, response: httpx.Response) -> JsonObject:
        if response.status_code >= 300:
            self.traffic.failures += 1
            raise RemoteRefused(f"{self.url}{path} {_quoted(response)}; {_remedy(response.status_code)}")
        try:
            answer = as_object(response.json())
        except ValueError as error:
            raise RemoteMismatch(f"{self.url}{path} does not answer in JSON; is it a vLLM server?") from error
        if answer is None:
            raise RemoteMismatch(f"{self.url}{path} answers with something else than an object; is it a vLLM server?")
        return answer


def _reason(error: httpx.TransportError) -> str:
    """A sentence's worth: some of these have no text of their own."""
    return str(error) or type(error).__name__


def _quoted(response: httpx.Response) -> str:
    """What the server said, from any of the shapes that vLLM and the gateways before it use."""
    said = response.text
    try:
        content = as_object(cast(object, json.loads(said)))
    except ValueError:
        content = None
    if content is not None:
        error = content.get("error", content.get("detail", content.get("message")))
        said = str((as_object(error) or {}).get("message", error))
    return f"answered HTTP {response.status_code}: {said[:_QUOTED_CHARS]}"


def _remedy(status: int) -> str:
    match status:
        case 401 | 403:
            return "set the API key that the server was started with"
        case 404:
            return "check the address, the model's name and that the server runs the right kind of model"
        case 413:
            return "raise the limit on request bodies of the gateway in front of it"
        case 501:
            return "the server cannot do this; it has to be a vLLM server of release 0.32 or later"
        case _ if status < 400:
            return "give the address that it redirects to"
        case _:
            return "the server and this client do not agree; check the server's release (0.32 or later) and model"
