"""The record codec: exact there and back, and a closed schema."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, Calibration, SearchConfig, Selection, Strategy, Tree, TreePolicy, Values
from search.calls import CallKind
from search.errors import RecordFormatError
from search.outcomes import CandidateStop, ExecutionOutcome, StopReason, Verdict
from search.protocols import Candidate, Execution, Snapshot
from search.record import Applied, Beginning, Ending, Line, Raised, RecordedCall, Response, dump_line, load_line

texts = st.text(max_size=8)
finite = st.floats(allow_nan=False)
responses: dict[CallKind, st.SearchStrategy[Response]] = {
    CallKind.POLICY: st.lists(
        st.builds(
            Candidate,
            text=texts,
            token_ids=st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
            logprob=finite,
            stop=st.sampled_from(CandidateStop),
        ),
        max_size=3,
    ).map(tuple),
    CallKind.RUNNER: st.builds(
        Execution,
        outcome=st.sampled_from(ExecutionOutcome),
        stdout=texts,
        value=st.none() | texts,
        error=st.none() | texts,
        cpu_seconds=st.floats(0, 100),
        snapshot=st.none() | texts.map(Snapshot),
    ),
    CallKind.SCORER: st.lists(finite, max_size=3).map(tuple),
    CallKind.EQUALITY: st.sampled_from(Verdict),
    CallKind.JUDGE: finite,
}
raised = st.builds(Raised, is_path_too_long=st.booleans(), message=texts)
calls = st.sampled_from(CallKind).flatmap(
    lambda kind: st.builds(
        RecordedCall,
        scope=texts,
        number=st.integers(0, 99),
        kind=st.just(kind),
        request=st.dictionaries(texts, st.none() | texts | st.integers(-(2**63), 2**63), max_size=3),
        response=responses[kind] | raised,
    )
)
endings = st.builds(
    Ending,
    applied=st.integers(0, 99),
    stop_reason=st.none() | st.sampled_from(StopReason),
    error=st.none() | texts,
)
configs = st.builds(
    SearchConfig,
    strategy=st.sampled_from(Strategy),
    candidates=st.integers(1, 32),
    tree_policy=st.sampled_from(TreePolicy),
    parallel_rollouts=st.integers(1, 8),
    beam_width=st.integers(1, 8),
    values=st.sampled_from(Values),
    selection=st.none() | st.sampled_from(Selection),
    top_k=st.none() | st.integers(1, 16),
    stop_when_decided=st.booleans(),
    stop_at_confidence=st.none() | st.floats(0.1, 0.9),
)
fits = st.builds(Calibration, scale=st.floats(0, 9), budget_slope=st.floats(-9, 9), offset=st.floats(-9, 9))
beginnings = st.builds(
    Beginning,
    problem=st.just("p"),
    config=st.builds(SearchConfig.calibrated, configs, st.none() | fits),
    budget=st.builds(Budget, trajectories=st.integers(1, 9), seconds=st.none() | st.floats(1, 9)),
    seed=st.integers(0, 2**53),
    has_scorer=st.booleans(),
    has_judge=st.booleans(),
    tree=st.just(Tree("p")),
)
lines: st.SearchStrategy[Line] = calls | endings | beginnings | st.builds(Applied, operation=texts)


@given(lines)
def test_a_line_comes_back_as_it_was(line: Line) -> None:
    text = dump_line(line)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    assert load_line(text) == line


def beginning(**changes: Any) -> str:
    line = Beginning(
        problem="p",
        config=SearchConfig(),
        budget=Budget(trajectories=1),
        seed=0,
        has_scorer=True,
        has_judge=False,
        tree=Tree("p"),
    )
    return json.dumps({**json.loads(dump_line(line)), **changes})


FIT = {"scale": 1.0, "budget_slope": 0.0, "offset": 0.0, "strategy": "mcts", "selection": "weighted_vote"}
CONFIG = json.loads(beginning())["config"]


def test_a_record_made_before_calibrations_is_read_without_one() -> None:
    line = load_line(beginning(config={name: CONFIG[name] for name in CONFIG if name != "calibration"}))
    assert isinstance(line, Beginning)
    assert line.config == SearchConfig()
    fitted = load_line(beginning(config={**CONFIG, "calibration": FIT}))
    assert isinstance(fitted, Beginning)
    assert fitted.config.calibration == Calibration(scale=1.0, budget_slope=0.0, offset=0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"kind": "wonder"}',
        '{"kind": "applied"}',
        '{"kind": "applied", "operation": "expand 1", "when": 3}',
        '{"kind": "end", "applied": "many", "stop_reason": null, "error": null}',
        '{"kind": "end", "applied": 1, "stop_reason": "bored", "error": null}',
        '{"kind": "judge", "scope": "s", "number": 0, "request": {}, "response": "yes"}',
        '{"kind": "policy", "scope": "s", "number": 0, "request": {"n": 1.5}, "response": []}',
        '{"kind": "policy", "scope": "s", "number": 0, "request": {}, "response": [{"text": "a"}]}',
        '{"kind": "scorer", "scope": "s", "number": 0, "request": {}}',
        beginning(config={}),
        beginning(config={**CONFIG, "calibration": {"scale": 1.0}}),
        beginning(config={**CONFIG, "calibration": {**FIT, "scale": -1.0}}),
        beginning(config={**CONFIG, "calibration": {**FIT, "slope": 1.0}}),
        beginning(tree={"version": 1}),
        beginning(mood="good"),
    ],
)
def test_a_damaged_line_is_refused(text: str) -> None:
    with pytest.raises(RecordFormatError, match="damaged"):
        load_line(text)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(RecordFormatError, match="reads 1"):
        load_line(beginning(version=version))
