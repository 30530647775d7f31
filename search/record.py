"""The record of one search: the answers of its parts and the order in which results were applied, as lines of JSON.

A search that gets `record=` calls it with one line per answer, as it comes, and one per result that is applied. So the
record of a server that crashed is good up to the crash. Cancelled calls leave no line. The caller writes the file:

    await search(problem, record=lambda line: file.write(dump_line(line)), ...)

and `search.replay` runs the search again from the lines:

    {"kind": "begin", "version": 1, "problem": …, "config": {…}, "budget": {…}, "seed": …, "tree": {…}, …}
    {"kind": "policy" | "runner" | "scorer" | "equality" | "judge",
     "scope": …, "number": …, "request": {…}, "response": …}
    {"kind": "applied", "operation": …}
    {"kind": "end", "applied": …, "stop_reason": …, "error": …}

In place of a response there may be "raised": {"message": …, "is_path_too_long": true | false}. Every line is read back
exactly as it was. Unknown fields are refused. Pure.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from itertools import count
from typing import assert_never

from search import codec
from search.budget import Budget
from search.calls import Call, CallKind, EqualityCall, JudgeCall, Listener, PolicyCall, RunnerCall, ScorerCall
from search.config import Calibration, SearchConfig, Selection, Strategy, TreePolicy, Values
from search.errors import RecordFormatError, TreeFormatError
from search.outcomes import CandidateStop, StopReason, Verdict
from search.protocols import Candidate, Execution, Path, PathTooLong, Snapshot
from search.tree import Tree

VERSION = 1
"""Raised whenever older readers would misread a line, or newer ones an old line."""

Request = dict[str, str | int | None]
"""The arguments of a call; paths as digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A part raised an exception instead of answering."""

    is_path_too_long: bool
    """Whether it was `PathTooLong`, which the search turns into an outcome; any other exception ended the search."""
    message: str


Response = tuple[Candidate | float, ...] | Execution | Verdict | float | Raised
"""Candidates or scores, an execution, a verdict, a judge's value; or an exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The request to a search."""

    problem: str
    config: SearchConfig
    budget: Budget
    seed: int
    has_scorer: bool
    has_judge: bool
    tree: Tree
    """The tree before the search, empty for a new one; changes as the search goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """One call of a part, and its response."""

    scope: str
    """The name of the operation that made the call; where several make calls at once, with a slash and more."""
    number: int
    """Number of the call within its scope, from 0, in the order of calling."""
    kind: CallKind
    request: Request
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The result of an operation was applied, or its failure raised."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a search ended."""

    applied: int
    """Results in the tree at the end."""
    stop_reason: StopReason | None
    """None where an exception ended it."""
    error: str | None = None
    """`Type: message` of that exception."""


Line = Beginning | RecordedCall | Applied | Ending
OnLine = Callable[[Line], object]
"""Receives each line of a record, and must return at once."""


def recording(record: OnLine, scope: str) -> Listener:
    """A listener that records the calls of one scope."""
    numbers = count()

    @asynccontextmanager
    async def listen(call: Call) -> AsyncGenerator[None]:
        number = next(numbers)

        def write(response: Response) -> None:
            request = request_of(call)
            record(RecordedCall(scope=scope, number=number, kind=call.kind, request=request, response=response))

        try:
            yield
        except PathTooLong as error:
            write(Raised(is_path_too_long=True, message=str(error)))
            raise
        except Exception as error:
            write(Raised(is_path_too_long=False, message=f"{type(error).__name__}: {error}"))
            raise
        write(tuple(call.result) if isinstance(call, PolicyCall | ScorerCall) else call.result)

    return listen


def request_of(call: Call) -> Request:
    """The arguments of a call as they are recorded."""
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


def _digest(path: Path) -> str:
    """Everything that the models see of a path, in 16 characters."""
    steps = [(step.text, step.token_ids, str(step.stop), step.output) for step in path.steps]
    return blake2b(repr((path.problem, steps)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def dump_line(line: Line) -> str:
    """One line of text, its end included; ASCII."""
    match line:
        case Beginning():
            record = {
                "kind": "begin",
                "version": VERSION,
                "problem": line.problem,
                "config": asdict(line.config),
                "budget": asdict(line.budget),
                "seed": line.seed,
                "has_scorer": line.has_scorer,
                "has_judge": line.has_judge,
                "tree": codec.save(line.tree),
            }
        case RecordedCall():
            record = {
                "kind": line.kind.value,
                "scope": line.scope,
                "number": line.number,
                "request": line.request,
                **_save_response(line.response),
            }
        case Applied():
            record = {"kind": "applied", "operation": line.operation}
        case Ending():
            record = {"kind": "end", **asdict(line)}
        case _:
            assert_never(line)
    return json.dumps(record) + "\n"


def load_line(text: str) -> Line:
    """The line that was dumped. Raises `RecordFormatError`."""
    try:
        record = codec.mapping(json.loads(text))
        match codec.text(record["kind"]):
            case "begin":
                return _load_beginning(record)
            case "applied":
                _refuse_others(record, Applied, "kind")
                return Applied(operation=codec.text(record["operation"]))
            case "end":
                return _load_ending(record)
            case kind:
                return _load_call(record, CallKind(kind))
    except (KeyError, ValueError, TreeFormatError) as error:
        raise RecordFormatError(f"the record is damaged: {error!r} in {text[:200]!r}") from error


def _load_beginning(record: Mapping[str, object]) -> Beginning:
    if record.get("version") != VERSION:
        raise RecordFormatError(f"the record has version {record.get('version')!r}; this search reads {VERSION}")
    _refuse_others(record, Beginning, "kind", "version")
    return Beginning(
        problem=codec.text(record["problem"]),
        config=_load_config(codec.mapping(record["config"])),
        budget=_load_budget(codec.mapping(record["budget"])),
        seed=codec.integer(record["seed"]),
        has_scorer=codec.boolean(record["has_scorer"]),
        has_judge=codec.boolean(record["has_judge"]),
        tree=codec.load(codec.mapping(record["tree"])),
    )


def _load_config(record: Mapping[str, object]) -> SearchConfig:
    _refuse_others(record, SearchConfig)
    return SearchConfig(
        strategy=codec.member(record["strategy"], Strategy),
        candidates=codec.integer(record["candidates"]),
        max_depth=codec.integer(record["max_depth"]),
        exploration=codec.number(record["exploration"]),
        tree_policy=codec.member(record["tree_policy"], TreePolicy),
        parallel_rollouts=codec.integer(record["parallel_rollouts"]),
        beam_width=codec.integer(record["beam_width"]),
        values=codec.member(record["values"], Values),
        selection=codec.optional(record["selection"], lambda value: codec.member(value, Selection)),
        top_k=codec.optional(record["top_k"], codec.integer),
        stop_when_decided=codec.boolean(record["stop_when_decided"]),
        stop_at_confidence=codec.optional(record["stop_at_confidence"], codec.number),
        calibration=codec.optional(record.get("calibration"), _load_calibration),  # older records have none
    )


def _load_calibration(value: object) -> Calibration:
    record = codec.mapping(value)
    _refuse_others(record, Calibration)
    return Calibration(
        scale=codec.number(record["scale"]),
        budget_slope=codec.number(record["budget_slope"]),
        offset=codec.number(record["offset"]),
        strategy=codec.member(record["strategy"], Strategy),
        selection=codec.member(record["selection"], Selection),
    )


def _load_budget(record: Mapping[str, object]) -> Budget:
    _refuse_others(record, Budget)
    return Budget(
        trajectories=codec.optional(record["trajectories"], codec.integer),
        tokens=codec.optional(record["tokens"], codec.integer),
        seconds=codec.optional(record["seconds"], codec.number),
    )


def _load_ending(record: Mapping[str, object]) -> Ending:
    _refuse_others(record, Ending, "kind")
    return Ending(
        applied=codec.integer(record["applied"]),
        stop_reason=codec.optional(record["stop_reason"], lambda value: codec.member(value, StopReason)),
        error=codec.optional(record["error"], codec.text),
    )


def _load_call(record: Mapping[str, object], kind: CallKind) -> RecordedCall:
    _refuse_others(record, RecordedCall, "raised")
    raised = codec.optional(record.get("raised"), _load_raised)
    return RecordedCall(
        scope=codec.text(record["scope"]),
        number=codec.integer(record["number"]),
        kind=kind,
        request={
            name: codec.integer(value) if isinstance(value, int) else codec.optional(value, codec.text)
            for name, value in codec.mapping(record["request"]).items()
        },
        response=_load_response(record["response"], kind) if raised is None else raised,
    )


def _save_response(response: Response) -> dict[str, object]:
    match response:
        case Raised():
            return {"raised": asdict(response)}
        case Execution():
            return {"response": {**codec.save_execution(response), "snapshot": response.snapshot}}
        case tuple():
            return {"response": [asdict(item) if isinstance(item, Candidate) else item for item in response]}
        case _:
            return {"response": response}


def _load_raised(value: object) -> Raised:
    record = codec.mapping(value)
    _refuse_others(record, Raised)
    return Raised(message=codec.text(record["message"]), is_path_too_long=codec.boolean(record["is_path_too_long"]))


def _load_response(value: object, kind: CallKind) -> Response:
    match kind:
        case CallKind.POLICY:
            return tuple(_load_candidate(codec.mapping(item)) for item in codec.items(value))
        case CallKind.RUNNER:
            return _load_execution(codec.mapping(value))
        case CallKind.SCORER:
            return tuple(codec.number(score) for score in codec.items(value))
        case CallKind.EQUALITY:
            return codec.member(value, Verdict)
        case CallKind.JUDGE:
            return codec.number(value)
        case _:
            assert_never(kind)


def _load_candidate(record: Mapping[str, object]) -> Candidate:
    _refuse_others(record, Candidate)
    return Candidate(
        text=codec.text(record["text"]),
        token_ids=tuple(codec.integer(token) for token in codec.items(record["token_ids"])),
        logprob=codec.number(record["logprob"]),
        stop=codec.member(record["stop"], CandidateStop),
    )


def _load_execution(record: Mapping[str, object]) -> Execution:
    _refuse_others(record, Execution)
    snapshot = codec.optional(record["snapshot"], lambda value: Snapshot(codec.text(value)))
    return replace(codec.load_execution(record), snapshot=snapshot)


def _refuse_others(record: Mapping[str, object], kind: type, *more: str) -> None:
    """Raise ValueError where the record has fields that neither the dataclass `kind` nor `more` names."""
    if others := sorted(record.keys() - {field.name for field in fields(kind)} - {*more}):
        raise ValueError(f"no such field: {', '.join(others)}")
