"""The application behind a real socket, as clients of the OpenAI API reach it, with fake parts behind it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from search.testing.fakes import ArithmeticPolicy
from server.parts.fakes import fake_parts, opening
from server.parts.serving import ServingParts
from server.settings.settings import Settings
from tests.server.http.uvicorn_listener import listening
from tests.server.serving import Served, serve

MODEL = "rstar"
KEY = "a-key-that-is-long-enough"
PATH = "/v1/chat/completions"
FLAWLESS = ArithmeticPolicy(error_rate=0.0)
"""It solves sums such as "1+2+3" and makes no mistakes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIServer:
    """Where it is, and what is behind it."""

    url: str
    """What clients take as their base URL."""
    served: Served


@asynccontextmanager
async def openai_server(
    *, parts: ServingParts | None = None, settings: Settings | None = None
) -> AsyncGenerator[OpenAIServer]:
    """It solves sums without mistakes, unless it gets other parts."""
    parts = parts or fake_parts(policy=FLAWLESS)
    async with serve(opening(parts), settings=settings) as served, listening(served.app) as listener:
        host, port = listener.address
        yield OpenAIServer(url=f"http://{host}:{port}/v1", served=served)


def chat_body(problem: str = "1+2+3", **fields: object) -> dict[str, object]:
    """The body of a request; its search repeats itself exactly."""
    search = {"candidates": 3, "parallel_rollouts": 1, "trajectories": 3}
    return {"model": MODEL, "messages": [{"role": "user", "content": problem}], "search": search, **fields}
