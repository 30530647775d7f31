"""Traced parts: a span for each call that a search makes, by standing between the search and its parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search import Candidate, CodeRunner, Execution, Parts, Path, Policy, Snapshot, StepScorer
from server.observability.tracing import is_recorded, span


def traced(parts: Parts) -> Parts:
    """The same parts; with spans `policy`, `ppm` and `sandbox`, if this task's request is recorded."""
    if not is_recorded():
        return parts
    return replace(
        parts,
        policy=_TracedPolicy(parts.policy),
        runner=_TracedRunner(parts.runner),
        scorer=None if parts.scorer is None else _TracedScorer(parts.scorer),
    )


@dataclass(frozen=True, slots=True)
class _TracedPolicy:
    policy: Policy

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        with span("policy", {"rstar.candidates": n, "rstar.depth": len(path.steps)}) as recorded:
            candidates = await self.policy.propose(path, n, seed=seed)
            recorded.set_attribute("rstar.tokens", sum(len(candidate.token_ids) for candidate in candidates))
        return candidates


@dataclass(frozen=True, slots=True)
class _TracedScorer:
    scorer: StepScorer

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        with span("ppm", {"rstar.paths": len(paths)}):
            return await self.scorer.score(paths)


@dataclass(frozen=True, slots=True)
class _TracedRunner:
    runner: CodeRunner

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        with span("sandbox") as recorded:
            execution = await self.runner.run(parent, code)
            recorded.set_attribute("rstar.outcome", execution.outcome)
        return execution
