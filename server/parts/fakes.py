"""Fakes: serving parts without models or processes, for tests and for benchmarks of the server alone.

They are deterministic. Like `search.testing.fakes` they solve sums such as "3+4+5".
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from search import Calibration, Candidate, CodeRunner, Path, Policy, StepScorer
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality
from server.parts.serving import ModelIds, OpenParts, Part, ServingParts

FAKE_MODELS = ModelIds(policy="arithmetic@fake", ppm="constant@fake")
FAKE_PROMPT_TOKENS = 1000


@dataclass(slots=True)
class GatedPolicy:
    """A policy that answers only while its gate is open. It counts the calls that wait and the cancelled ones."""

    policy: Policy = field(default_factory=ArithmeticPolicy)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the policy was called."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a call was cancelled."""
    waiting: int = 0
    most_waiting: int = 0
    cancelled: int = 0

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """See `Policy.propose`. Waits for the gate without a limit."""
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
    faults: Mapping[Part, str] | None = None,
    calibration: Calibration | None = None,
) -> ServingParts:
    """Parts that solve sums. A test may fill `faults` later, to make a part fail."""
    policy = policy or ArithmeticPolicy()

    @asynccontextmanager
    async def runner(seed: int) -> AsyncGenerator[CodeRunner]:
        yield open_runner(seed)

    return ServingParts(
        policy=lambda sampling: policy,
        scorer=scorer or FunctionScorer(lambda _: 0.5),
        equality=StringEquality(),
        open_runner=runner,
        prompt_tokens=len,
        max_prompt_tokens=FAKE_PROMPT_TOKENS,
        models=FAKE_MODELS,
        faults=lambda: faults or {},
        calibration=calibration,
    )


def opening(parts: ServingParts) -> OpenParts:
    """Opens parts that are open already."""

    @asynccontextmanager
    async def open_parts(report: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        for part in Part:
            report(part)
        yield parts

    return open_parts
