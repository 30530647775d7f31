"""Metering: counts and times the calls a search makes, by standing between the search and its parts.

The search itself thus knows neither clock nor counters. Calls that are cancelled are timed, but add no counts.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from search.parts import Parts
from search.protocols import Candidate, CodeRunner, Execution, Path, Policy, Snapshot, StepScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call of `search` spent; what is in the tree from earlier calls is not counted, save where it says so."""

    trajectories: int
    """In the tree, those of earlier calls included."""
    cached_trajectories: int
    """Of these, made by earlier calls."""
    policy_tokens: int
    """Generated, those of surplus trajectories of the baselines included."""
    ppm_calls: int
    """Paths scored."""
    ppm_step_tokens: int
    """Tokens of the steps on these paths, the problem's own not counted."""
    code_steps: int
    """Code steps run, those run again after loading included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSeconds:
    """Wall-clock seconds during which at least one call of the kind was in flight; kinds may overlap."""

    policy: float
    sandbox: float
    ppm: float


class Stopwatch:
    """Time during which at least one `running` block was open."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open = 0
        self._since_s = 0.0
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Blocks may overlap; overlapping time counts once."""
        if self._open == 0:
            self._since_s = self._now()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if self._open == 0:
                self.seconds += self._now() - self._since_s


class Meter:
    """Adds up what went through the parts it has wrapped."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.policy_time = Stopwatch(now)
        self.sandbox_time = Stopwatch(now)
        self.ppm_time = Stopwatch(now)
        self.policy_tokens = 0
        self.ppm_calls = 0
        self.ppm_step_tokens = 0
        self.code_steps = 0

    def wrap(self, parts: Parts) -> Parts:
        """The same parts, metered."""
        return replace(
            parts,
            policy=_MeteredPolicy(parts.policy, self),
            runner=_MeteredRunner(parts.runner, self),
            scorer=None if parts.scorer is None else _MeteredScorer(parts.scorer, self),
        )

    def usage(self, *, trajectories: int, cached_trajectories: int) -> Usage:
        """The counts so far."""
        return Usage(
            trajectories=trajectories,
            cached_trajectories=cached_trajectories,
            policy_tokens=self.policy_tokens,
            ppm_calls=self.ppm_calls,
            ppm_step_tokens=self.ppm_step_tokens,
            code_steps=self.code_steps,
        )

    def phase_seconds(self) -> PhaseSeconds:
        """The times so far."""
        return PhaseSeconds(
            policy=self.policy_time.seconds, sandbox=self.sandbox_time.seconds, ppm=self.ppm_time.seconds
        )


@dataclass(frozen=True, slots=True)
class _MeteredPolicy:
    policy: Policy
    meter: Meter

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        with self.meter.policy_time.running():
            candidates = await self.policy.propose(path, n, seed=seed)
        self.meter.policy_tokens += sum(len(candidate.token_ids) for candidate in candidates)
        return candidates


@dataclass(frozen=True, slots=True)
class _MeteredScorer:
    scorer: StepScorer
    meter: Meter

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        with self.meter.ppm_time.running():
            scores = await self.scorer.score(paths)
        self.meter.ppm_calls += len(paths)
        self.meter.ppm_step_tokens += sum(len(step.token_ids) for path in paths for step in path.steps)
        return scores


@dataclass(frozen=True, slots=True)
class _MeteredRunner:
    runner: CodeRunner
    meter: Meter

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        with self.meter.sandbox_time.running():
            execution = await self.runner.run(parent, code)
        self.meter.code_steps += 1
        return execution
