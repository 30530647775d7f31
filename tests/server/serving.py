"""A served application over fake parts, for tests that talk to it over HTTP or through its solver."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.types import ASGIApp

from server.app import create_app
from server.http.requests import search_request
from server.http.schemas import SolveRequest
from server.parts.fakes import fake_parts, opening
from server.parts.serving import OpenParts
from server.settings.settings import Settings
from server.solving.searches import SearchRequest
from server.solving.solver import Solver

OPENING_S = 10.0
"""Fake parts open at once; this only keeps a broken test from hanging."""


@dataclass(frozen=True, slots=True)
class Served:
    """An application in its lifespan, and a client that reaches it without a network."""

    app: ASGIApp
    solver: Solver
    client: httpx.AsyncClient
    ready: asyncio.Event
    """Set once the parts are open."""


@asynccontextmanager
async def serve(
    open_parts: OpenParts | None = None, *, settings: Settings | None = None, waits: bool = True
) -> AsyncGenerator[Served]:
    """Serve the given parts, or fake ones; with `waits` from when they are open."""
    settings = settings or Settings()
    ready = asyncio.Event()
    solver = Solver(
        open_parts or opening(fake_parts()),
        settings,
        on_ready=ready.set,
    )
    app = create_app(solver, settings)
    # The transport does not know lifespans: this one is the application's own.
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://fake", timeout=OPENING_S
    )
    async with solver.running(), client:
        if waits:
            async with asyncio.timeout(OPENING_S):
                await ready.wait()
        yield Served(app, solver, client, ready)


def a_request(problem: str = "1+2", **fields: object) -> SearchRequest:
    """What the body of such a request asks for; unless it says otherwise, two trajectories and no cache."""
    body = SolveRequest.model_validate({"problem": problem, "trajectories": 2, "cache": "bypass", **fields})
    return search_request(body, Settings(), endpoint="/solve")


def check_problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Every error looks alike; returns its body."""
    body = response.json()
    assert (response.status_code, body["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:rstar:problem:{name}"
    assert {"type", "title", "status", "detail", "instance", "request_id", "errors"} == set(body) - {"retry_after_s"}
    assert str(body.get("retry_after_s", "")) == response.headers.get("retry-after", "")
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return body
