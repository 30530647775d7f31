"""The record of one search: what its parts answered, and in which order the results were applied.

A recorder is the tape of a search that runs in earnest; it changes nothing and never waits. It writes one line per
answer, as it comes, and one per result that is applied; so the record of a server that crashed is good up to the crash.
Calls that were cancelled leave no line. Files are the caller's:

    recorder = Recorder(lambda line: file.write(dump_line(line)))       (`search.record_codec`)
    result = await search(problem, parts=recorder.wrap(parts), ...)

and `search.replay` runs the search again from the lines.
"""

import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import assert_never

from search.listening import Call, CallKind, EqualityCall, JudgeCall, PolicyCall, RunnerCall, ScorerCall, listening
from search.outcomes import Verdict
from search.parts import Parts
from search.protocols import Candidate, Execution, Path, PathTooLong
from search.tape import Beginning, Ending


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
class RecordedCall:
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


Line = Beginning | RecordedCall | Applied | Ending


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
        return listening(parts, partial(_note, self._write, scope, itertools.count()))

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


@asynccontextmanager
async def _note(
    write: Callable[[Line], object], scope: str, numbers: Iterator[int], call: Call
) -> AsyncGenerator[None]:
    """Writes a line for one call of the scope, unless it is cancelled."""
    number = next(numbers)

    def note(response: Response) -> None:
        write(RecordedCall(scope=scope, number=number, kind=call.kind, request=request_of(call), response=response))

    try:
        yield
    except PathTooLong as error:
        note(Raised(is_path_too_long=True, message=str(error)))
        raise
    except Exception as error:
        note(Raised(is_path_too_long=False, message=f"{type(error).__name__}: {error}"))
        raise
    note(_response_of(call))


def request_of(call: Call) -> Request:
    """The arguments of a call as they are written down."""
    match call:
        case PolicyCall():
            return {"path": _digest(call.path), "n": call.n, "seed": call.seed}
        case RunnerCall():
            return {"parent": call.parent, "code": call.code}
        case ScorerCall():
            return {"paths": " ".join(_digest(path) for path in call.paths)}
        case EqualityCall():
            return {"a": call.a, "b": call.b}
        case JudgeCall():
            return {"answer": call.answer}
        case _:
            assert_never(call)


def _response_of(call: Call) -> Response:
    match call:
        case PolicyCall():
            return tuple(call.result)
        case ScorerCall():
            return tuple(call.result)
        case _:
            return call.result


def _digest(path: Path) -> str:
    """Everything that the models see of a path, in 16 characters."""
    steps = [(step.text, step.token_ids, str(step.stop), step.output) for step in path.steps]
    return blake2b(repr((path.problem, steps)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
