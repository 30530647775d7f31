"""Metering: counts, and time that overlaps counted once."""

import pytest

from search.fakes import FunctionScorer, ScriptedPolicy, ScriptedRunner, SteppingClock, StringEquality, step
from search.metering import Meter, Stopwatch
from search.parts import Parts
from search.protocols import Path


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def test_overlapping_calls_count_their_time_once() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.running():
        clock.time_s = 2.0
        with watch.running():
            clock.time_s = 3.0
        clock.time_s = 5.0
    clock.time_s = 9.0
    with watch.running():
        clock.time_s = 10.0
    assert watch.seconds == 6.0


def test_a_call_that_fails_is_timed() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    def fail() -> None:
        with watch.running():
            clock.time_s = 2.0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert watch.seconds == 2.0


async def test_calls_through_metered_parts_are_counted() -> None:
    meter = Meter(SteppingClock())
    parts = meter.wrap(
        Parts(
            policy=ScriptedPolicy({(): [step("a", tokens=3), step("b", tokens=5)]}),
            runner=ScriptedRunner(),
            equality=StringEquality(),
            scorer=FunctionScorer(lambda path: 0.0),
        )
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


def test_parts_without_a_scorer_stay_without() -> None:
    parts = Parts(policy=ScriptedPolicy({}), runner=ScriptedRunner(), equality=StringEquality())
    assert Meter(SteppingClock()).wrap(parts).scorer is None
