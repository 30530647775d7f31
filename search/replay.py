"""Replay: runs a recorded search again, without its parts, to the same tree byte for byte.

The parts' answers come from the record, by operation and number of the call, and results are applied in the recorded
order. So it does not matter how many rollouts were in flight, or whether a deadline, a cancellation or a failure ended
the search: the replay stops where the search was stopped. A record without an end (the server crashed) is replayed as
far as it goes.

If the code has changed since, the record may not fit: the search makes another call, or one more, or stops elsewhere.
That is a `ReplayMismatch` naming the first call that differs. A record shows what one version did; it does not promise
that another version does the same.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import cast

from search import codec
from search.calls import Call, EqualityCall, JudgeCall, PolicyCall, RunnerCall, ScorerCall
from search.errors import RecordedFailure, RecordEnds, RecordFormatError, ReplayMismatch
from search.events import OnEvent
from search.outcomes import StopReason, Verdict
from search.protocols import Candidate, Execution, Parts, Path, PathTooLong, Snapshot
from search.record import Applied, Beginning, Ending, Line, Raised, RecordedCall, Response, load_line, request_of
from search.run import Run, SearchResult
from search.strategies import run_to_end
from search.tree import Tree

_LONG_S = 1e9
"""A replay has no deadline: it stops where the search was stopped."""

_FROM_WITHIN = (StopReason.BUDGET, StopReason.CONVERGED, StopReason.EXHAUSTED)
"""Reasons that the search finds again by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A recorded search, read."""

    beginning: Beginning
    calls: tuple[RecordedCall, ...]
    order: tuple[str, ...]
    """Operations in the order of applying."""
    ending: Ending | None
    """None where the recording stopped before the search did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The outcome of a replay."""

    tree: Tree
    result: SearchResult | None
    """None where the search failed, again."""
    error: Exception | None
    """How it failed: the same exception, where the search itself raised it; `RecordedFailure`, where a part did."""


def read_record(lines: Iterable[str]) -> Record:
    """The record of one search. A last line cut short is skipped. Raises `RecordFormatError`."""
    loaded: list[Line] = []
    for text in takewhile(lambda text: text.endswith("\n"), lines):
        line = load_line(text)
        if isinstance(line, Beginning) == bool(loaded) or (loaded and isinstance(loaded[-1], Ending)):
            raise RecordFormatError(f"a record is one search, from its beginning to its end; found {text[:200]!r}")
        loaded.append(line)
    if not loaded:
        raise RecordFormatError("the record is empty")
    beginning, last = loaded[0], loaded[-1]
    assert isinstance(beginning, Beginning)
    return Record(
        beginning=beginning,
        calls=tuple(line for line in loaded if isinstance(line, RecordedCall)),
        order=tuple(line.operation for line in loaded if isinstance(line, Applied)),
        ending=last if isinstance(last, Ending) else None,
    )


async def replay_record(record: Record, *, on_event: OnEvent | None = None) -> Replay:
    """Run the search again. Raises `ReplayMismatch` where it does not fit the record."""
    tree = codec.load(codec.save(record.beginning.tree))
    tape = _Tape(record)
    budget = record.beginning.budget
    if budget.seconds is not None:
        budget = replace(budget, seconds=_LONG_S)
    beginning = replace(record.beginning, tree=tree, budget=budget)
    run = Run(beginning, parts_for=tape.parts_for, now=lambda: 0.0, tape=tape)
    try:
        result = run.result(await run_to_end(run, on_event=on_event))
    except ReplayMismatch:
        raise
    except Exception as error:
        if record.ending is None or record.ending.error is None:
            raise
        return Replay(tree=tree, result=None, error=error)
    tape.check_complete(result)
    return Replay(tree=tree, result=result, error=None)


class _Tape:
    """Gives the recorded order of results and the recorded responses; see `search.calls.Tape`."""

    def __init__(self, record: Record) -> None:
        self._beginning = record.beginning
        self._ending = record.ending
        self._order = deque(record.order)
        self._applied_ever = frozenset(record.order)
        self._calls = {(call.scope, call.number): call for call in record.calls}
        self._failed = frozenset(
            _operation(call.scope)
            for call in record.calls
            if isinstance(call.response, Raised) and not call.response.is_path_too_long
        )

    def parts_for(self, scope: str) -> Parts:
        """Parts that answer the calls of one scope from the record."""
        recorded = _RecordedParts(self, scope)
        return Parts(
            policy=recorded,
            runner=recorded,
            equality=recorded,
            scorer=recorded if self._beginning.has_scorer else None,
            judge=recorded if self._beginning.has_judge else None,
        )

    def next_operation(self, in_flight: Collection[str], *, applied: int) -> str:
        """The next one in the record."""
        self.check_end(applied=applied)
        if not self._order:
            raise ReplayMismatch(
                f"the recorded search ended here ({self._reason}), after {applied} results; this one goes on with "
                f"{', '.join(in_flight)}"
            )
        if self._order[0] not in in_flight:
            raise ReplayMismatch(
                f"the record has {self._order[0]!r} next, as result {applied + 1}; this search has not begun it, but "
                f"{', '.join(in_flight) or 'nothing'}"
            )
        return self._order.popleft()

    def check_end(self, *, applied: int) -> None:
        """Stop where the search was stopped from outside."""
        if self._order or self._reason in _FROM_WITHIN:
            return
        if self._ending is None or applied >= self._ending.applied:
            raise RecordEnds(self._reason or StopReason.CANCELLED)

    def check_complete(self, result: SearchResult) -> None:
        """Raise where the search stopped by itself before the record did."""
        left = f"the record goes on with {self._order[0]!r}" if self._order else ""
        if self._ending is not None and result.tree.applied != self._ending.applied:
            left = left or f"the record has {self._ending.applied}"
        if left:
            raise ReplayMismatch(
                f"the search stopped ({result.stop_reason}) after {result.tree.applied} results; {left}"
            )

    async def response(self, scope: str, number: int, made: Call) -> Response:
        """The recorded response; waits without end if the recorded search ended before it used one."""
        if _operation(scope) not in self._applied_ever:
            await asyncio.Event().wait()
        recorded = self._calls.get((scope, number))
        if recorded is None and _operation(scope) in self._failed:
            # It was cancelled because a call beside it failed, and will be again.
            await asyncio.Event().wait()
        request = request_of(made)
        asked = f"call {number} of {scope!r} differs: the search asks {made.kind} {request!r}"
        if recorded is None:
            raise ReplayMismatch(f"{asked}; the record has no such call")
        if (recorded.kind, recorded.request) != (made.kind, request):
            raise ReplayMismatch(f"{asked}; the record has {recorded.kind} {recorded.request!r}")
        if isinstance(recorded.response, Raised):
            raised = PathTooLong if recorded.response.is_path_too_long else RecordedFailure
            raise raised(recorded.response.message)
        return recorded.response

    @property
    def _reason(self) -> StopReason | None:
        return None if self._ending is None else self._ending.stop_reason


def _operation(scope: str) -> str:
    return scope.partition("/")[0]


class _RecordedParts:
    """All parts at once, within one scope. The type of a response is certain: a record is read by the kind of call."""

    def __init__(self, tape: _Tape, scope: str) -> None:
        self._tape = tape
        self._scope = scope
        self._numbers = count()

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        return cast("Sequence[Candidate]", await self._response(PolicyCall(path, n, seed)))

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        return cast("Execution", await self._response(RunnerCall(parent, code)))

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        return cast("Sequence[float]", await self._response(ScorerCall(paths)))

    async def same(self, a: str, b: str) -> Verdict:
        return cast("Verdict", await self._response(EqualityCall(a, b)))

    async def value(self, answer: str) -> float:
        return cast("float", await self._response(JudgeCall(answer)))

    async def _response(self, call: Call) -> Response:
        return await self._tape.response(self._scope, next(self._numbers), call)
