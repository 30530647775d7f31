"""Calls: how the calls of the parts are watched, and how groups of them run at the same time.

one way to watch the calls that a search makes of its parts.

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

**Operations** are named groups of calls to the parts, run at the same time; their results are applied one at a time.

An operation is one expansion, one comparison of answers or one trajectory of a baseline. Its name is the same in every
run. No code uses the result of an operation before its turn. So everything that changes a tree happens in one task, in
one order, and a replay only has to keep that order. A failure has its turn too, ahead of all results. Leaving the
context cancels the operations in flight and waits for them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from search.outcomes import Verdict
from search.protocols import Candidate, Execution, Parts, Path, Snapshot
from search.tree import Tree


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


Result = TypeVar("Result")
Work = Callable[[], Coroutine[Any, Any, Result]]


class Tape(Protocol):
    """Gives the order of results in a replay; see `search.replay`."""

    def next_operation(self, in_flight: Collection[str], *, applied: int) -> str:
        """The operation to be applied as result number `applied` + 1. Raises `RecordEnds` or `ReplayMismatch`."""
        ...

    def check_end(self, *, applied: int) -> None:
        """Raise `RecordEnds` if the recorded search was stopped from outside after result number `applied`."""


class Operations:
    """The operations in flight for one search."""

    def __init__(
        self, group: asyncio.TaskGroup, tree: Tree, tape: Tape | None, on_applied: Callable[[str], object]
    ) -> None:
        self._group = group
        self._tree = tree
        self._tape = tape
        self._on_applied = on_applied
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._finished: dict[str, Callable[[], None]] = {}
        self._failed: str | None = None
        self._changed = asyncio.Event()

    def start(self, name: str, work: Work[Result], *, then: Callable[[Result], None]) -> None:
        """Run `work`; when its turn has come, `then` gets its result, and must not wait."""
        assert name not in self._in_flight
        self._in_flight[name] = self._group.create_task(self._run(name, work, then))

    async def apply_next(self, name: str | None = None) -> None:
        """Wait for the named operation, or for any, and apply its result. Raises what an operation raised."""
        assert self._in_flight if name is None else name in self._in_flight
        while True:
            applied = await self._next(name)
            del self._in_flight[applied]
            apply = self._finished.pop(applied)
            self._on_applied(applied)
            apply()
            if name in (None, applied):
                return

    def cancel_all(self) -> None:
        """Cancel everything in flight."""
        for task in self._in_flight.values():
            task.cancel()

    async def _next(self, name: str | None) -> str:
        recorded = None
        if self._tape is not None:
            recorded = self._tape.next_operation(self._in_flight.keys(), applied=self._tree.applied)
        while (ready := self._ready(name, recorded)) is None:
            self._changed.clear()
            await self._changed.wait()
        return ready

    def _ready(self, name: str | None, recorded: str | None) -> str | None:
        wanted = recorded or self._failed or name
        if wanted is None:
            return next(iter(self._finished), None)
        return wanted if wanted in self._finished else None

    async def _run(self, name: str, work: Work[Result], then: Callable[[Result], None]) -> None:
        try:
            result = await work()
        except BaseException as error:
            # Also a cancellation that a part raised by itself: a wait for this operation must end.
            self._finished[name] = partial(_raise, error)
            self._failed = self._failed or name
            if not isinstance(error, Exception):
                raise
        else:
            self._finished[name] = partial(then, result)
        finally:
            self._changed.set()


@asynccontextmanager
async def operations(
    tree: Tree, *, tape: Tape | None = None, on_applied: Callable[[str], object] = lambda _: None
) -> AsyncGenerator[Operations]:
    """Operations for the search of `tree`; `on_applied` gets the name of each just before its result is applied.

    The first failure comes out as it was raised.
    """
    async with task_group() as group:
        running = Operations(group, tree, tape, on_applied)
        yield running
        running.cancel_all()


@asynccontextmanager
async def task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup` that raises the first exception of a child itself, not a group of exceptions.

    So callers of a search can catch the exception of a part by its type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def run_all(calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of `calls`, run at the same time, in order; the first failure cancels the others."""
    async with task_group() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


def _raise(error: BaseException) -> NoReturn:
    raise error
