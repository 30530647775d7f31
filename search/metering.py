"""Metering: counts and times the calls that a search makes, as one of its listeners.

The search itself thus knows neither clock nor counters. Calls that are cancelled are timed, but add no counts.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from search.listening import Call, CallKind, PolicyCall, ScorerCall


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
    """Time during which at least one call was running. Calls may overlap; overlapping time counts once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._running = 0
        self._since_s = 0.0
        self.seconds = 0.0

    def start(self) -> None:
        """A call begins."""
        if self._running == 0:
            self._since_s = self._now()
        self._running += 1

    def stop(self) -> None:
        """A call ends."""
        self._running -= 1
        if self._running == 0:
            self.seconds += self._now() - self._since_s


class Meter:
    """Adds up the calls that it listens to."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._watches = {kind: Stopwatch(now) for kind in (CallKind.POLICY, CallKind.RUNNER, CallKind.SCORER)}
        self.policy_tokens = 0
        self.ppm_calls = 0
        self.ppm_step_tokens = 0
        self.code_steps = 0

    @asynccontextmanager
    async def listen(self, call: Call) -> AsyncGenerator[None]:
        """A listener that adds up one call."""
        watch = self._watches.get(call.kind)
        if watch is None:
            yield
            return
        watch.start()
        try:
            yield
        finally:
            watch.stop()
        match call:
            case PolicyCall():
                self.policy_tokens += sum(len(candidate.token_ids) for candidate in call.result)
            case ScorerCall():
                self.ppm_calls += len(call.paths)
                self.ppm_step_tokens += sum(len(step.token_ids) for path in call.paths for step in path.steps)
            case _:
                self.code_steps += 1

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
            policy=self._watches[CallKind.POLICY].seconds,
            sandbox=self._watches[CallKind.RUNNER].seconds,
            ppm=self._watches[CallKind.SCORER].seconds,
        )
