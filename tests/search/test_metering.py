"""Metering: counts, and time that overlaps counted once."""

import pytest

from search.budget import Meter, Stopwatch
from search.listening import listening
from search.protocols import Parts, Path
from search.testing.fakes import (
    FunctionScorer,
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    StringEquality,
    arithmetic_parts,
    step,
)


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def test_overlapping_calls_count_their_time_once() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    watch.start()
    clock.time_s = 2.0
    watch.start()
    clock.time_s = 3.0
    watch.stop()
    clock.time_s = 5.0
    watch.stop()
    clock.time_s = 9.0
    watch.start()
    clock.time_s = 10.0
    watch.stop()
    assert watch.seconds == 6.0


async def test_a_call_that_fails_is_timed_and_not_counted() -> None:
    meter = Meter(SteppingClock())
    parts = listening(arithmetic_parts(), meter.listen)
    with pytest.raises(ValueError, match="invalid literal"):
        await parts.policy.propose(Path(problem="no sum"), 1, seed=0)
    assert meter.phase_seconds().policy == 1.0
    assert meter.usage(trajectories=0, cached_trajectories=0).policy_tokens == 0


async def test_calls_through_metered_parts_are_counted() -> None:
    meter = Meter(SteppingClock())
    parts = listening(
        Parts(
            policy=ScriptedPolicy({(): [step("a", tokens=3), step("b", tokens=5)]}),
            runner=ScriptedRunner(),
            equality=StringEquality(),
            scorer=FunctionScorer(lambda path: 0.0),
        ),
        meter.listen,
    )
    assert parts.scorer is not None
    await parts.policy.propose(Path(problem="p"), 2, seed=0)
    await parts.scorer.score([])
    await parts.runner.run(None, "a")
    await parts.runner.run(None, "b")
    usage = meter.usage(trajectories=5, cached_trajectories=2)
    assert (usage.policy_tokens, usage.ppm_calls, usage.code_steps) == (8, 0, 2)
    assert (usage.trajectories, usage.cached_trajectories) == (5, 2)
    times = meter.phase_seconds()
    assert (times.policy, times.ppm, times.sandbox) == (1.0, 1.0, 2.0)
