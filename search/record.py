"""The record of one search: what its parts answered, and in which order the results were applied.

A recorder is the tape of a search that runs in earnest; it changes nothing and never waits. It writes one line per
answer, as it comes, and one per result that is applied; so the record of a server that crashed is good up to the crash.
Calls that were cancelled leave no line. Files are the caller's:

    recorder = Recorder(lambda line: file.write(dump_line(line)))       (`search.record_codec`)
    result = await search(problem, parts=recorder.wrap(parts), ...)

and `search.replay` runs the search again from the lines.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import TypeVar

from search.outcomes import Verdict
from search.parts import Judge, Parts
from search.protocols import (
    AnswerEquality,
    Candidate,
    CodeRunner,
    Execution,
    Path,
    PathTooLong,
    Policy,
    Snapshot,
    StepScorer,
)
from search.tape import Beginning, Ending

Answer = TypeVar("Answer")


class CallKind(StrEnum):
    """Which part was asked."""

    POLICY = "policy"
    """`Policy.propose`: candidates."""
    RUNNER = "runner"
    """`CodeRunner.run`: an execution."""
    SCORER = "scorer"
    """`StepScorer.score`: scores."""
    EQUALITY = "equality"
    """`AnswerEquality.same`: a verdict."""
    JUDGE = "judge"
    """`Judge.value`: a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A part raised instead of answering."""

    is_path_too_long: bool
    """Whether it was `PathTooLong`, which is an answer of sorts; anything else ended the search."""
    message: str


Request = dict[str, str | int | None]
"""What was asked; paths as digests."""
Response = tuple[Candidate, ...] | Execution | tuple[float, ...] | Verdict | float | Raised
"""By kind, in the order of `CallKind`; or an exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a part, and what came of it."""

    scope: str
    """See `Tape.scoped`."""
    number: int
    """Of the call within its scope, from 0, in the order of asking."""
    kind: CallKind
    request: Request
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The result of an operation was applied, or its failure raised."""

    operation: str


Line = Beginning | Call | Applied | Ending


class Recorder:
    """The tape of one search. `write` gets each line and must return at once."""

    def __init__(self, write: Callable[[Line], object]) -> None:
        self._write = write

    def wrap(self, parts: Parts) -> Parts:
        """The parts for a search that is recorded."""
        return replace(parts, tape=self)

    def begin(self, beginning: Beginning) -> None:
        """See `Tape`, here and below."""
        self._write(beginning)

    def scoped(self, parts: Parts, scope: str) -> Parts:
        """Parts that write down what they answer."""
        listener = _Listener(scope, self._write)
        return replace(
            parts,
            policy=_RecordedPolicy(parts.policy, listener),
            runner=_RecordedRunner(parts.runner, listener),
            equality=_RecordedEquality(parts.equality, listener),
            scorer=None if parts.scorer is None else _RecordedScorer(parts.scorer, listener),
            judge=None if parts.judge is None else _RecordedJudge(parts.judge, listener),
        )

    def next_operation(self, in_flight: Collection[str], *, applied: int) -> str | None:
        """Whichever is first."""
        return None

    def applied(self, operation: str) -> None:
        """Written down."""
        self._write(Applied(operation=operation))

    def check_end(self, *, applied: int) -> None:
        """Not for a recorder to say."""

    def end(self, ending: Ending) -> None:
        """Written down."""
        self._write(ending)


class _Listener:
    """Writes down the calls of one scope."""

    def __init__(self, scope: str, write: Callable[[Line], object]) -> None:
        self._scope = scope
        self._write = write
        self._calls = 0

    async def hear(
        self, kind: CallKind, request: Request, asked: Awaitable[Answer], *, as_response: Callable[[Answer], Response]
    ) -> Answer:
        number = self._calls
        self._calls += 1

        def note(response: Response) -> None:
            self._write(Call(scope=self._scope, number=number, kind=kind, request=request, response=response))

        try:
            answer = await asked
        except PathTooLong as error:
            note(Raised(is_path_too_long=True, message=str(error)))
            raise
        except Exception as error:
            note(Raised(is_path_too_long=False, message=f"{type(error).__name__}: {error}"))
            raise
        note(as_response(answer))
        return answer


@dataclass(frozen=True, slots=True)
class _RecordedPolicy:
    policy: Policy
    listener: _Listener

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        asked = self.policy.propose(path, n, seed=seed)
        return await self.listener.hear(CallKind.POLICY, policy_request(path, n, seed), asked, as_response=tuple)


@dataclass(frozen=True, slots=True)
class _RecordedRunner:
    runner: CodeRunner
    listener: _Listener

    async def run(self, parent: Snapshot | None, code: str) -> Execution:
        asked = self.runner.run(parent, code)
        return await self.listener.hear(CallKind.RUNNER, runner_request(parent, code), asked, as_response=_same)


@dataclass(frozen=True, slots=True)
class _RecordedScorer:
    scorer: StepScorer
    listener: _Listener

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        asked = self.scorer.score(paths)
        return await self.listener.hear(CallKind.SCORER, scorer_request(paths), asked, as_response=tuple)


@dataclass(frozen=True, slots=True)
class _RecordedEquality:
    equality: AnswerEquality
    listener: _Listener

    async def same(self, a: str, b: str) -> Verdict:
        asked = self.equality.same(a, b)
        return await self.listener.hear(CallKind.EQUALITY, equality_request(a, b), asked, as_response=_same)


@dataclass(frozen=True, slots=True)
class _RecordedJudge:
    judge: Judge
    listener: _Listener

    async def value(self, answer: str) -> float:
        asked = self.judge.value(answer)
        return await self.listener.hear(CallKind.JUDGE, judge_request(answer), asked, as_response=_same)


def policy_request(path: Path, n: int, seed: int) -> Request:
    """As it is written down, here and below."""
    return {"path": _digest(path), "n": n, "seed": seed}


def runner_request(parent: Snapshot | None, code: str) -> Request:
    """A code step and where it runs."""
    return {"parent": parent, "code": code}


def scorer_request(paths: Sequence[Path]) -> Request:
    """A batch of paths."""
    return {"paths": " ".join(_digest(path) for path in paths)}


def equality_request(a: str, b: str) -> Request:
    """Two answers."""
    return {"a": a, "b": b}


def judge_request(answer: str) -> Request:
    """An answer."""
    return {"answer": answer}


def _digest(path: Path) -> str:
    """Everything that the models see of a path, in 16 characters."""
    steps = [(step.text, step.token_ids, str(step.stop), step.output) for step in path.steps]
    return blake2b(repr((path.problem, steps)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _same(response: Answer) -> Answer:
    return response
