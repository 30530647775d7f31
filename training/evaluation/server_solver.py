"""The solver behind a URL: a running server, asked over HTTP, whose stream gives the answers on the way.

Asks for one rollout at a time and for no early stop, so that its figures mean the same as those of the solver in this
process. Two things differ. The server chooses temperature and depth, and its confidence may be a fitted one. And its
events do not tell tokens, so curves are by trajectories only. Waits where the server is busy; other errors say what to
do.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx

from search import (
    AnswerChanged,
    Budget,
    Event,
    NodeAdded,
    NodeId,
    NodeOutcome,
    StopReason,
    TrajectoryFinished,
)
from server.answers.equality import EqualityPool
from training.evaluation.solutions import Method, OpenSolver, Recorder, Solution

logger = logging.getLogger(__name__)

OFFERED = frozenset(Method) - {Method.MCTS_CONSTANT}
"""The server always asks its own PPM."""

SILENCE_S = 60.0
"""Time without a byte after which a server is taken for gone; it sends a heartbeat every 10 s by default."""
PATIENCE_S = 900.0
"""How long a busy server is waited for: longer than its longest search may take by default."""

_BUSY = frozenset({429, 503})


class ServerRefused(Exception):
    """The server cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSource:
    """A server, and the file of the key for it."""

    url: str
    candidates: int
    api_key_file: Path | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenSolver]:
        """See `SolverSource.open`."""
        timeout = httpx.Timeout(SILENCE_S, pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx.AsyncClient(base_url=self.url, headers=self._headers(), timeout=timeout, limits=limits) as client,
            EqualityPool() as equality,
        ):
            yield OpenSolver(await connect(client, candidates=self.candidates), equality)

    def about(self) -> dict[str, Any]:
        """See `SolverSource.about`."""
        with httpx.Client(base_url=self.url, timeout=SILENCE_S) as client:
            try:
                version = _content(client.get("/version"))
            except httpx.HTTPError as error:
                raise ServerRefused(_unreachable(client.base_url, error)) from error
        models = cast("dict[str, Any] | None", version.get("models"))
        if not models:
            raise ServerRefused(f"{self.url} has no models yet; wait until {self.url}/readyz answers 200")
        fitted = version.get("confidence_fitted")
        return {"url": self.url, "version": version.get("version"), "confidence_fitted": fitted, **models}

    def _headers(self) -> dict[str, str]:
        if self.api_key_file is None:
            return {}
        try:
            return {"authorization": f"Bearer {self.api_key_file.read_text().strip()}"}
        except OSError as error:
            raise ServerRefused(f"cannot read the API key: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest numbers that a request may ask for; None where the server names none."""

    trajectories: int | None
    tokens: int | None
    timeout_s: float | None


async def connect(client: httpx.AsyncClient, *, candidates: int) -> "ServerSolver":
    """A solver for the server that `client` reaches. Raises `ServerRefused`."""
    try:
        document = _content(await client.get("/openapi.json"))
    except httpx.HTTPError as error:
        raise ServerRefused(_unreachable(client.base_url, error)) from error
    try:
        fields = document["components"]["schemas"]["SolveRequest"]["properties"]
    except KeyError as error:
        raise ServerRefused(
            f"{client.base_url} is no server of this project: its /openapi.json describes no SolveRequest"
        ) from error
    limits = Limits(
        trajectories=_maximum(fields, "trajectories"),
        tokens=_maximum(fields, "max_tokens"),
        timeout_s=_maximum(fields, "timeout_s"),
    )
    return ServerSolver(client, limits, candidates=candidates)


def _maximum(fields: Mapping[str, Any], name: str) -> Any:
    return next((choice["maximum"] for choice in fields[name].get("anyOf", ()) if "maximum" in choice), None)


@dataclass(frozen=True, slots=True)
class ServerSolver:
    """Asks one server."""

    client: httpx.AsyncClient
    limits: Limits
    candidates: int = field(kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, kw_only=True)
    now: Callable[[], float] = field(default=time.monotonic, kw_only=True)

    @property
    def methods(self) -> frozenset[Method]:
        """See `Solver.methods`."""
        return OFFERED

    async def solve(self, question: str, method: Method, *, budget: Budget, seed: int) -> Solution:
        """See `Solver.solve`. Raises `ServerRefused`."""
        body = self._body(question, method, budget, seed)
        waited_s = 0.0
        while True:
            began_s = self.now()
            try:
                recorder, ending = await self._ask(body)
            except httpx.HTTPError as error:
                raise ServerRefused(_unreachable(self.client.base_url, error)) from error
            if ending.status == 200:
                return _solution(ending.content, recorder, seconds=self.now() - began_s)
            if ending.is_about_the_problem:
                logger.warning("the server cannot read a problem: %s", ending.detail)
                return _unanswered(seconds=self.now() - began_s)
            if ending.status not in _BUSY or waited_s >= PATIENCE_S:
                raise ServerRefused(f"{self.client.base_url} answered {ending.status}: {ending.advice}")
            pause_s = float(ending.content.get("retry_after_s", 1))
            await self.sleep(pause_s)
            waited_s += pause_s

    def _body(self, question: str, method: Method, budget: Budget, seed: int) -> dict[str, Any]:
        most = self.limits
        trajectories = most.trajectories if budget.trajectories is None else budget.trajectories
        if trajectories is not None and most.trajectories is not None and trajectories > most.trajectories:
            raise ServerRefused(
                f"{self.client.base_url} allows {most.trajectories} trajectories, fewer than {trajectories}: ask for "
                "fewer, or start it with a larger --max-trajectories"
            )
        tokens = budget.tokens if budget.tokens is not None else most.tokens
        if tokens is not None and most.tokens is not None:
            tokens = min(tokens, most.tokens)
        limits = {"trajectories": trajectories, "max_tokens": tokens, "timeout_s": most.timeout_s}
        return {
            "problem": question,
            **{name: limit for name, limit in limits.items() if limit is not None},
            "seed": seed,
            "stream": True,
            "cache": "bypass",  # what an answer costs is measured here
            "search": {
                "strategy": method.value,
                "candidates": self.candidates,
                "parallel_rollouts": 1,
                "stop_when_decided": False,
            },
        }

    async def _ask(self, body: Mapping[str, Any]) -> tuple[Recorder, "_Ending"]:
        recorder = Recorder(lambda: None)
        async with self.client.stream("POST", "/solve", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                return recorder, _Ending(response.status_code, _content(response, checked=False))
            async for name, payload in _events(response.aiter_lines()):
                if name == "done":
                    return recorder, _Ending(200, payload)
                if name == "error":
                    return recorder, _Ending(payload["status"], payload)
                if (event := _event(name, payload)) is not None:
                    recorder(event)
        raise httpx.RemoteProtocolError("the stream ended before the result")


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a request ended: with a response, or with a problem document."""

    status: int
    content: Mapping[str, Any]

    @property
    def detail(self) -> str:
        return str(self.content.get("detail", "no details"))

    @property
    def is_about_the_problem(self) -> bool:
        """The problem itself is too long, or unreadable: no fault of the server."""
        fields = {error["field"] for error in self.content.get("errors", ())}
        return self.status == 422 and fields == {"problem"}

    @property
    def advice(self) -> str:
        match self.status:
            case 401:
                return f"{self.detail} (--api-key-file FILE)"
            case 422:
                return f"{self.detail}. Ask for less, or raise the server's limits"
            case status if status in _BUSY:
                return f"{self.detail}. It stayed so for {PATIENCE_S:.0f} s: lower --concurrency, or try again later"
            case _:
                return f"{self.detail} (request {self.content.get('request_id')}; see the server's log)"


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The server-sent events in the lines of a stream; comments are skipped."""
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def _event(name: str, payload: Mapping[str, Any]) -> Event | None:
    """The event as the search emitted it; None for those that are of no use here."""
    match name:
        case "node":
            return NodeAdded(
                node_id=NodeId(payload["node_id"]),
                parent=NodeId(payload["parent"]),
                depth=payload["depth"],
                outcome=NodeOutcome(payload["outcome"]),
                score=payload["score"],
                text=payload["text"],
            )
        case "trajectory":
            return TrajectoryFinished(
                index=payload["index"],
                node_id=NodeId(payload["node_id"]),
                answer=payload["answer"],
                score=payload["score"],
            )
        case "answer_changed":
            return AnswerChanged(answer=payload["answer"], confidence=payload["confidence"])
        case _:
            return None


def _solution(response: Mapping[str, Any], recorder: Recorder, *, seconds: float) -> Solution:
    usage = response["usage"]
    return Solution(
        answer=response["answer"],
        confidence=response["confidence"],
        moments=recorder.moments,
        stop_reason=StopReason(response["stop_reason"]),
        trajectories=usage["trajectories"],
        tokens=usage["policy_tokens"],
        code_steps=usage["code_steps"],
        seconds=seconds,
    )


def _unanswered(*, seconds: float) -> Solution:
    return Solution(
        answer=None,
        confidence=0.0,
        moments=(),
        stop_reason=StopReason.EXHAUSTED,
        trajectories=0,
        tokens=0,
        code_steps=0,
        seconds=seconds,
    )


def _content(response: httpx.Response, *, checked: bool = True) -> dict[str, Any]:
    """The JSON object in the body. Raises `ServerRefused` where `checked` and it is an error, or no such object."""
    try:
        content: object = response.json()
    except ValueError:
        content = None
    if isinstance(content, dict) and (response.is_success or not checked):
        return cast("dict[str, Any]", content)
    raise ServerRefused(
        f"{response.url} answered {response.status_code} with {response.text[:200]!r}; is it a server of this project?"
    )


def _unreachable(url: httpx.URL, error: httpx.HTTPError) -> str:
    return (
        f"no answer from {url} ({type(error).__name__}: {error}); start the server with `python -m server`, "
        "or give its address. Finished problems are kept if there is a --folder"
    )
