"""The record codec: the lines of a recorded search as JSON, one object a line, and back, exactly. Pure.

    {"kind": "begin", "version": 1, "problem": …, "config": {…}, "budget": {…}, "seed": …, "tree": {…}, …}
    {"kind": "policy" | "runner" | "scorer" | "equality" | "judge",
     "scope": …, "number": …, "request": {…}, "response": …}
    {"kind": "applied", "operation": …}
    {"kind": "end", "applied": …, "stop_reason": …, "error": …}

In place of a response there may be "raised": {"message": …, "is_path_too_long": true | false}. The schema is closed:
what it does not name is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import assert_never

from search import codec, reading
from search.budget import Budget
from search.config import SearchConfig, Selection, Strategy, TreePolicy, Values
from search.errors import RecordFormatError, TreeFormatError
from search.listening import CallKind
from search.outcomes import CandidateStop, StopReason, Verdict
from search.protocols import Candidate, Execution, Snapshot
from search.record import Applied, Line, Raised, RecordedCall, Request, Response
from search.tape import Beginning, Ending

VERSION = 1
"""Raised whenever older readers would misread a line, or newer ones an old line."""

_BEGIN, _APPLIED, _END = "begin", "applied", "end"


def dump_line(line: Line) -> str:
    """One line of text, its end included; ASCII."""
    match line:
        case Beginning():
            record = _save_beginning(line)
        case RecordedCall():
            record = {
                "kind": line.kind.value,
                "scope": line.scope,
                "number": line.number,
                "request": line.request,
                **_save_response(line.response),
            }
        case Applied():
            record = {"kind": _APPLIED, "operation": line.operation}
        case Ending():
            record = {"kind": _END, **asdict(line)}
        case _:
            assert_never(line)
    return json.dumps(record) + "\n"


def load_line(text: str) -> Line:
    """The line that was dumped. Raises `RecordFormatError`."""
    try:
        record = reading.mapping(json.loads(text))
        match reading.text(record["kind"]):
            case "begin":
                return _load_beginning(record)
            case "applied":
                _refuse_others(record, {"kind", "operation"})
                return Applied(operation=reading.text(record["operation"]))
            case "end":
                return _load_ending(record)
            case kind:
                return _load_call(record, CallKind(kind))
    except (KeyError, ValueError, TreeFormatError) as error:
        raise RecordFormatError(f"the record is damaged: {error!r} in {text[:200]!r}") from error


def _save_beginning(beginning: Beginning) -> dict[str, object]:
    return {
        "kind": _BEGIN,
        "version": VERSION,
        "problem": beginning.problem,
        "config": asdict(beginning.config),
        "budget": asdict(beginning.budget),
        "seed": beginning.seed,
        "has_scorer": beginning.has_scorer,
        "has_judge": beginning.has_judge,
        "tree": codec.save(beginning.tree),
    }


def _load_beginning(record: Mapping[str, object]) -> Beginning:
    if record.get("version") != VERSION:
        raise RecordFormatError(f"the record has version {record.get('version')!r}; this search reads {VERSION}")
    names = {field.name for field in fields(Beginning)}
    _refuse_others(record, {"kind", "version", *names})
    return Beginning(
        problem=reading.text(record["problem"]),
        config=_load_config(reading.mapping(record["config"])),
        budget=_load_budget(reading.mapping(record["budget"])),
        seed=reading.integer(record["seed"]),
        has_scorer=reading.boolean(record["has_scorer"]),
        has_judge=reading.boolean(record["has_judge"]),
        tree=codec.load(reading.mapping(record["tree"])),
    )


def _load_config(record: Mapping[str, object]) -> SearchConfig:
    _refuse_others(record, {field.name for field in fields(SearchConfig)})
    selection, confidence = record["selection"], record["stop_at_confidence"]
    return SearchConfig(
        strategy=reading.member(record["strategy"], Strategy),
        candidates=reading.integer(record["candidates"]),
        max_depth=reading.integer(record["max_depth"]),
        exploration=reading.number(record["exploration"]),
        tree_policy=reading.member(record["tree_policy"], TreePolicy),
        parallel_rollouts=reading.integer(record["parallel_rollouts"]),
        beam_width=reading.integer(record["beam_width"]),
        values=reading.member(record["values"], Values),
        selection=None if selection is None else reading.member(selection, Selection),
        top_k=reading.optional(record["top_k"], reading.integer),
        stop_when_decided=reading.boolean(record["stop_when_decided"]),
        stop_at_confidence=reading.optional(confidence, reading.number),
    )


def _load_budget(record: Mapping[str, object]) -> Budget:
    _refuse_others(record, {field.name for field in fields(Budget)})
    return Budget(
        trajectories=reading.optional(record["trajectories"], reading.integer),
        tokens=reading.optional(record["tokens"], reading.integer),
        seconds=reading.optional(record["seconds"], reading.number),
    )


def _load_ending(record: Mapping[str, object]) -> Ending:
    _refuse_others(record, {"kind", *(field.name for field in fields(Ending))})
    reason = record["stop_reason"]
    return Ending(
        applied=reading.integer(record["applied"]),
        stop_reason=None if reason is None else reading.member(reason, StopReason),
        error=reading.optional(record["error"], reading.text),
    )


def _load_call(record: Mapping[str, object], kind: CallKind) -> RecordedCall:
    _refuse_others(record, {"raised", *(field.name for field in fields(RecordedCall))})
    raised = reading.optional(record.get("raised"), _load_raised)
    return RecordedCall(
        scope=reading.text(record["scope"]),
        number=reading.integer(record["number"]),
        kind=kind,
        request=_load_request(reading.mapping(record["request"])),
        response=_load_response(record["response"], kind) if raised is None else raised,
    )


def _load_request(record: Mapping[str, object]) -> Request:
    request: Request = {}
    for name, value in record.items():
        request[name] = reading.integer(value) if isinstance(value, int) else reading.optional(value, reading.text)
    return request


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
    record = reading.mapping(value)
    _refuse_others(record, {field.name for field in fields(Raised)})
    return Raised(message=reading.text(record["message"]), is_path_too_long=reading.boolean(record["is_path_too_long"]))


def _load_response(value: object, kind: CallKind) -> Response:
    match kind:
        case CallKind.POLICY:
            return tuple(_load_candidate(reading.mapping(item)) for item in reading.items(value))
        case CallKind.RUNNER:
            return _load_execution(reading.mapping(value))
        case CallKind.SCORER:
            return tuple(reading.number(score) for score in reading.items(value))
        case CallKind.EQUALITY:
            return reading.member(value, Verdict)
        case CallKind.JUDGE:
            return reading.number(value)
        case _:
            assert_never(kind)


def _load_candidate(record: Mapping[str, object]) -> Candidate:
    _refuse_others(record, {field.name for field in fields(Candidate)})
    return Candidate(
        text=reading.text(record["text"]),
        token_ids=tuple(reading.integer(token) for token in reading.items(record["token_ids"])),
        logprob=reading.number(record["logprob"]),
        stop=reading.member(record["stop"], CandidateStop),
    )


def _load_execution(record: Mapping[str, object]) -> Execution:
    _refuse_others(record, {field.name for field in fields(Execution)})
    execution = codec.load_execution(record)
    snapshot = reading.optional(record["snapshot"], reading.text)
    return Execution(
        outcome=execution.outcome,
        stdout=execution.stdout,
        value=execution.value,
        error=execution.error,
        cpu_seconds=execution.cpu_seconds,
        snapshot=None if snapshot is None else Snapshot(snapshot),
    )


def _refuse_others(record: Mapping[str, object], names: set[str]) -> None:
    if others := sorted(record.keys() - names):
        raise ValueError(f"no such field: {', '.join(others)}")
