"""Listening: one way to watch the calls that a search makes of its parts.

A listener is a function that takes a `Call` and gives an async context manager, which is open for as long as the call
runs. Listeners of one search count, time, record, trace and delay calls without a wrapper class of their own:

    @asynccontextmanager
    async def count_tokens(call: Call) -> AsyncGenerator[None]:
        yield                                                     # the call runs here
        if isinstance(call, PolicyCall):
            counter.add(sum(len(candidate.token_ids) for candidate in call.result))

    parts = listening(parts, count_tokens)

Everything before `yield` is the enter event; everything after it is the exit event of a call that returned. An
exception of the part, or a cancellation, is raised at the `yield`. Both events happen in the task that makes the call.
A listener never changes arguments or result, and passes exceptions on. Only a listener for tests awaits anything.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from search.outcomes import Verdict
from search.protocols import Candidate, Execution, Parts, Path, Snapshot


class CallKind(StrEnum):
    """Which part is called."""

    POLICY = "policy"
    """`Policy.propose`."""
    RUNNER = "runner"
    """`CodeRunner.run`."""
    SCORER = "scorer"
    """`StepScorer.score`."""
    EQUALITY = "equality"
    """`AnswerEquality.same`."""
    JUDGE = "judge"
    """`Judge.value`."""


@dataclass(slots=True)
class PolicyCall:
    """One call of `Policy.propose`. Its result, as that of the other calls, is there once the call has returned."""

    kind: ClassVar = CallKind.POLICY
    path: Path
    n: int
    seed: int
    result: Sequence[Candidate] = field(init=False, repr=False)


@dataclass(slots=True)
class RunnerCall:
    """One call of `CodeRunner.run`."""

    kind: ClassVar = CallKind.RUNNER
    parent: Snapshot | None
    code: str
    result: Execution = field(init=False, repr=False)


@dataclass(slots=True)
class ScorerCall:
    """One call of `StepScorer.score`."""

    kind: ClassVar = CallKind.SCORER
    paths: Sequence[Path]
    result: Sequence[float] = field(init=False, repr=False)


@dataclass(slots=True)
class EqualityCall:
    """One call of `AnswerEquality.same`."""

    kind: ClassVar = CallKind.EQUALITY
    a: str
    b: str
    result: Verdict = field(init=False, repr=False)


@dataclass(slots=True)
class JudgeCall:
    """One call of `Judge.value`."""

    kind: ClassVar = CallKind.JUDGE
    answer: str
    result: float = field(init=False, repr=False)


Call = PolicyCall | RunnerCall | ScorerCall | EqualityCall | JudgeCall

Listener = Callable[[Call], AbstractAsyncContextManager[None]]


def listening(parts: Parts, *listeners: Listener) -> Parts:
    """The same parts, with `listeners` hearing every call of them. The first listener is the closest to the part.

    Parts without listeners are returned as they are.
    """
    for listener in listeners:
        heard = _Heard(parts, listener)
        parts = Parts(
            policy=heard,
            runner=heard,
            equality=heard,
            scorer=None if parts.scorer is None else heard,
            judge=None if parts.judge is None else heard,
        )
    return parts


class _Heard:
    """All parts of a search at once, with one listener around each call."""

    __slots__ = ("_listener", "_parts")

    def __init__(self, parts: Parts, listener: Listener) -> None:
        self._parts = parts
        self._listener = listener

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        call = PolicyCall(path, n, seed)
        async with self._listener(call):
            call.result = await self._parts.policy.propose(path, n, seed=seed)
        return call.result

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        call = RunnerCall(parent, code)
        async with self._listener(call):
            call.result = await self._parts.runner.run(parent, code)
        return call.result

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        assert self._parts.scorer is not None
        call = ScorerCall(paths)
        async with self._listener(call):
            call.result = await self._parts.scorer.score(paths)
        return call.result

    async def same(self, a: str, b: str) -> Verdict:
        call = EqualityCall(a, b)
        async with self._listener(call):
            call.result = await self._parts.equality.same(a, b)
        return call.result

    async def value(self, answer: str) -> float:
        assert self._parts.judge is not None
        call = JudgeCall(answer)
        async with self._listener(call):
            call.result = await self._parts.judge.value(answer)
        return call.result
