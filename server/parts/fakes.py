"""Fakes: serving parts without models or processes, for tests and for timing the server by itself. Deterministic.

They live in the small arithmetic world of `search.testing.fakes`: problems are sums such as "3+4+5".
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from search import Candidate, CodeRunner, Path, Policy, StepScorer
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality
from server.app import create_app
from server.http.asgi import Application
from server.http.schemas import Models
from server.parts.serving import OpenParts, Part, ServingParts
from server.settings.settings import Settings
from server.solving.admission import limits_from
from server.solving.solver import Solver

FAKE_MODELS = Models(policy="arithmetic@fake", ppm="constant@fake")
FAKE_PROMPT_TOKENS = 1000

OPENING_S = 10.0
"""Fake parts open at once; this only keeps a broken test from hanging."""


@dataclass(slots=True)
class GatedPolicy:
    """A policy that answers only while its gate is open, and counts who waits and who left."""

    policy: Policy = field(default_factory=ArithmeticPolicy)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a call has come in."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a call was cancelled."""
    waiting: int = 0
    most_waiting: int = 0
    cancelled: int = 0

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """Waits for the gate, without end."""
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.left.set()
            raise
        finally:
            self.waiting -= 1
        return await self.policy.propose(path, n, seed=seed)


def fake_parts(
    *,
    policy: Policy | None = None,
    scorer: StepScorer | None = None,
    open_runner: Callable[[int], CodeRunner] = lambda _: ArithmeticRunner(),
    faults: dict[Part, str] | None = None,
) -> ServingParts:
    """Parts that solve sums; `faults` may be filled later, to break one."""
    policy = policy or ArithmeticPolicy()

    @asynccontextmanager
    async def runner(seed: int) -> AsyncGenerator[CodeRunner]:
        yield open_runner(seed)

    found = faults if faults is not None else {}
    return ServingParts(
        policy=lambda temperature, top_p: policy,
        scorer=scorer or FunctionScorer(lambda _: 0.5),
        equality=StringEquality(),
        open_runner=runner,
        prompt_tokens=len,
        max_prompt_tokens=FAKE_PROMPT_TOKENS,
        models=FAKE_MODELS,
        faults=lambda: found,
    )


def opening(parts: ServingParts) -> OpenParts:
    """Opens what is open already."""

    @asynccontextmanager
    async def open_parts(report: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        for part in Part:
            report(part)
        yield parts

    return open_parts


@dataclass(frozen=True, slots=True)
class Served:
    """An application in its lifespan, and a client that reaches it without a network."""

    app: Application
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
        limits=limits_from(settings),
        record_folder=settings.record_folder,
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
