"""The client of one vLLM server: JSON over HTTP, with time limits, retries and errors in words.

Knows no models. A cancelled call closes its connection, which is how a vLLM server learns to stop generating.
"""

import asyncio
import email.utils
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self, TypeAlias, cast

import httpx

from server.engines.errors import RemoteMismatch, RemoteRefused, RemoteUnavailable

logger = logging.getLogger(__name__)

JsonObject: TypeAlias = Mapping[str, object]

_MAX_CONNECTIONS = 1024
"""More than the requests of all searches together; the server queues, not the client."""
_KEPT_ALIVE_S = 3.0
"""Shorter than the 5 seconds after which vLLM closes an idle connection, so that ours is never the one just closed."""
_QUOTED_CHARS = 300
"""Characters of an answer that are quoted in an error."""
_TOO_MANY_REQUESTS = 429
_NOT_IMPLEMENTED = 501
_SET_KEY = "set the API key that the server was started with"
_REMEDIES = {
    401: _SET_KEY,
    403: _SET_KEY,
    404: "check the address, the model's name and that the server runs the right kind of model",
    413: "raise the limit on request bodies of the gateway in front of it",
    _NOT_IMPLEMENTED: "the server cannot do this; it has to be a vLLM server of release 0.32 or later",
}
"""What to do about a refusal, by its status."""


def _no_headers() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """The address of a server, its key and its model's name."""

    url: str
    """`http(s)://host:port`, with the path in front of `/v1` where there is one, no final slash."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token; never logged."""
    model: str | None = None
    """Name under which the server serves the model; None where it serves only one."""
    headers: Callable[[], Mapping[str, str]] = field(default=_no_headers, repr=False, compare=False)
    """Called before each attempt, in the task that makes it: further headers, such as those of the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Exponential back-off with jitter; a server's own Retry-After wins where it is longer."""

    attempts: int = 5
    """With the delays below they cover 4 to 8 seconds, as long as a restart behind a balancer takes."""
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 30.0
    """A server that asks for more patience has failed: searches have deadlines of minutes."""

    def delay_s(self, attempt: int, *, rng: random.Random, retry_after_s: float | None = None) -> float | None:
        """Seconds to wait after failed attempt number `attempt`, counted from 1; None to give up."""
        if attempt >= self.attempts:
            return None
        if retry_after_s is not None and retry_after_s > self.max_retry_after_s:
            return None
        delay_s = min(self.max_delay_s, self.first_delay_s * 2 ** (attempt - 1))
        # Half of it is random, so that searches which failed together do not retry together.
        return max(delay_s * rng.uniform(0.5, 1.0), retry_after_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """How long to wait for a remote server."""

    connect_s: float = 5.0
    answer_s: float = 120.0
    """Limit from the last byte of a request to the first of its answer: generation and wait in the queue."""
    start_s: float = 300.0
    """Limit for a server that is still starting: loading a model of many gigabytes takes minutes."""
    start_poll_s: float = 1.0
    probe_s: float = 5.0
    """A server that has not answered for so long is probed, so a dead one is noticed within 21 seconds."""
    retries: Retries = field(default_factory=Retries)


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
        """Get the answer to a GET request; see `post`."""
        return await self._ask("GET", path, None)

    async def probe(self) -> None:
        """Ask once whether the server is healthy. Raises `RemoteUnavailable`."""
        try:
            response = await self._http.get(f"{self.url}/health", timeout=self.limits.connect_s)
        except httpx.RequestError as error:
            raise RemoteUnavailable(f"{self.url} cannot be reached ({_reason(error)})") from error
        if response.status_code >= 500:
            raise RemoteUnavailable(f"{self.url} says that its engine is not well (HTTP {response.status_code})")

    async def _ask(self, method: str, path: str, body: JsonObject | None) -> JsonObject:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.request(method, self.url + path, json=body, headers=dict(self._headers()))
            except httpx.ReadTimeout as error:
                # A retry would only add load to a server that is too slow already.
                raise RemoteUnavailable(
                    f"{self.url}{path} did not answer within {self.limits.answer_s:g} s; the server is overloaded, "
                    "or the limit is too short for its model: raise RSTAR_REMOTE_TIMEOUT_S"
                ) from error
            except httpx.DecodingError as error:
                raise RemoteMismatch(
                    f"{self.url}{path} answers with a body that cannot be decoded ({_reason(error)}); "
                    "is it a vLLM server, or is a gateway before it broken?"
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
            patience = "" if asked_s is None else f" and asks to wait {asked_s:g} s"
            raise RemoteUnavailable(
                f"{self.url}{path} {reason}{patience}, after {attempt} attempts; "
                "check that the server is running and reachable from here"
            )
        logger.warning("%s%s %s; trying again in %.1f s", self.url, path, reason, delay_s)
        await self._sleep(delay_s)

    def _read(self, path: str, response: httpx.Response) -> JsonObject:
        if response.status_code >= 300:
            raise RemoteRefused(f"{self.url}{path} {_quoted(response)}; {_remedy(response.status_code)}")
        try:
            answer = as_object(response.json())
        except ValueError as error:
            raise RemoteMismatch(f"{self.url}{path} does not answer in JSON; is it a vLLM server?") from error
        if answer is None:
            raise RemoteMismatch(f"{self.url}{path} answers with something else than an object; is it a vLLM server?")
        return answer


def is_worth_retrying(status: int) -> bool:
    """Whether the same request may be answered later."""
    return status == _TOO_MANY_REQUESTS or (status >= 500 and status != _NOT_IMPLEMENTED)


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, in either of its two forms; None where it says nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def as_object(value: object) -> JsonObject | None:
    """The value, where it is an object."""
    return cast(JsonObject, value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """The value, where it is a list."""
    return cast(list[object], value) if isinstance(value, list) else None


def objects(answer: JsonObject, name: str, *, where: str) -> list[JsonObject]:
    """The list of objects in a field of an answer. Raises `RemoteMismatch`."""
    items = as_list(answer.get(name))
    found = [as_object(item) for item in items or []]
    if items is None or None in found:
        raise RemoteMismatch(f"{where}: expected a list of objects as {name}; is it a vLLM server?")
    return [item for item in found if item is not None]


def in_order(items: Sequence[JsonObject], *, where: str, expected: int) -> list[JsonObject]:
    """The items in order of their field `index`. Raises `RemoteMismatch` where they are not 0 to `expected` - 1."""
    by_index = {item.get("index"): item for item in items}
    if len(items) != expected or set(by_index) != set(range(expected)):
        raise RemoteMismatch(f"{where}: expected results 0 to {expected - 1}, got {sorted(map(str, by_index))}")
    return [by_index[index] for index in range(expected)]


def numbers(value: object, *, where: str, what: str) -> list[float]:
    """A list of numbers. Raises `RemoteMismatch`."""
    items = as_list(value)
    found = [item for item in items or [] if isinstance(item, int | float)]
    if items is None or len(found) != len(items):
        raise RemoteMismatch(f"{where}: expected numbers as {what}, got {str(value)[:80]}; it needs vLLM 0.32 or later")
    return [float(item) for item in found]


def _reason(error: httpx.RequestError) -> str:
    """A sentence's worth: some of these have no text of their own."""
    return str(error) or type(error).__name__


def _quoted(response: httpx.Response) -> str:
    """The server's message, from any of the shapes that vLLM and the gateways before it use."""
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
    if status < 400:
        return "give the address that it redirects to"
    return _REMEDIES.get(
        status, "the server and this client do not agree; check the server's release (0.32 or later) and model"
    )
