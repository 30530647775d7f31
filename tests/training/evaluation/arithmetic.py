"""The arithmetic world of `search.testing.fakes` for the tests of the evaluation: a searcher, problems, a source.

Problems are sums such as "3+4+5". Nothing here loads a model or starts a sandbox.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from search import (
    Budget,
    Judge,
    OnEvent,
    Parts,
    Policy,
    SearchConfig,
    SearchResult,
    StepScorer,
    Tree,
    Verdict,
    search,
)
from search.testing.fakes import (
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    SteppingClock,
    StringEquality,
    hashed_score,
)
from training.evaluation.local_solver import LocalSolver
from training.evaluation.solutions import OpenSolver
from training.problems.problem import Problem
from training.searcher import Searcher


@dataclass(frozen=True, slots=True)
class LateEquality:
    """Compares texts, and lets other work go first."""

    async def same(self, a: str, b: str) -> Verdict:
        await asyncio.sleep(0)
        return await StringEquality().same(a, b)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticSearcher(Searcher):
    """Searches for sums."""

    async def search(
        self,
        problem: str,
        *,
        config: SearchConfig,
        budget: Budget,
        seed: int,
        policy: Policy | None = None,
        scorer: StepScorer | None = None,
        judge: Judge | None = None,
        tree: Tree | None = None,
        on_event: OnEvent | None = None,
    ) -> SearchResult:
        parts = Parts(
            policy=policy or self.policy,
            runner=ArithmeticRunner(),
            equality=self.equality,
            scorer=scorer or self.scorer,
            judge=judge,
        )
        return await search(
            problem,
            parts=parts,
            config=config,
            budget=budget,
            seed=seed,
            now=self.now,
            tree=tree,
            on_event=on_event,
        )


def arithmetic_searcher(error_rate: float = 0.4, *, has_ppm: bool = True) -> Searcher:
    """Makes mistakes when it samples, and none when it is greedy; its PPM knows nothing."""
    return ArithmeticSearcher(
        policy=ArithmeticPolicy(error_rate),
        greedy=ArithmeticPolicy(0.0),
        scorer=FunctionScorer(hashed_score) if has_ppm else None,
        equality=cast(Any, LateEquality()),
        sandbox=cast(Any, None),
        now=SteppingClock(),
    )


def sums(count: int, *, source: str = "sums.json") -> list[Problem]:
    """Different problems with their answers."""
    return [
        Problem(
            id=f"sums/{number}",
            group="even" if number % 2 == 0 else "odd",
            question=f"{number}+3+5",
            answer=str(number + 8),
            source=source,
        )
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True)
class ArithmeticSource:
    """Opens an arithmetic solver in any process."""

    error_rate: float = 0.4
    config: SearchConfig = field(default_factory=lambda: SearchConfig(candidates=3))
    name: str = "arithmetic"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenSolver]:
        yield OpenSolver(LocalSolver(arithmetic_searcher(self.error_rate), self.config), StringEquality())

    def about(self) -> dict[str, Any]:
        return {"policy": self.name, "policy_round": 1, "ppm_round": 1, "ppm_kind": "ppm"}
